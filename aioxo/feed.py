"""What the server says by itself, as changes of objects.

xo-server sends one notification, ``all``, to everybody: ``enter`` with whole objects that were added *or* changed, and
``exit`` with ids. The feed makes of it what subscribers want to know: did the object come into view, change, or leave.

That takes knowing what was there before, and the server tells only by listing it. So the first subscriber of a type
has the ids of that type listed (a cheap request, ids alone), and the feed keeps them up to date from then on, one table
for all subscribers. A subscriber with a filter has its own view, listed the same way, the server evaluating the filter.

After a cut nothing is replayed. Every subscriber gets a `Gap`, the tables are kept, and an object that came during the
cut enters when it first changes. Whoever needs more than that wants a mirror.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Self

from .errors import ApiError, AuthenticationError, ConfigurationError, ProtocolError, XOError, excerpt
from .hub import DROPPED, Overflow, Subscription
from .models import Change, Gap, Notification

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from .filters import Filter
    from .models import ChangeKind, Record
    from .rest import Rest
    from .rpc import Connection

__all__ = ["Changes", "Feed", "Notifications"]

logger = logging.getLogger("aioxo.feed")

#: Object type to the collections that list it. Types that no collection lists enter when they are first seen.
LISTED_IN: Final[dict[str, tuple[str, ...]]] = {
    "PBD": ("pbds",),
    "PCI": ("pcis",),
    "PGPU": ("pgpus",),
    "PIF": ("pifs",),
    "SM": ("sms",),
    "SR": ("srs",),
    "VBD": ("vbds",),
    "VDI": ("vdis",),
    "VDI-snapshot": ("vdi-snapshots",),
    "VIF": ("vifs",),
    "VM": ("vms",),
    "VM-controller": ("vm-controllers",),
    "VM-snapshot": ("vm-snapshots",),
    "VM-template": ("vm-templates",),
    "host": ("hosts",),
    "message": ("messages", "alarms"),
    "network": ("networks",),
    "pool": ("pools",),
}


def merge_changes(older: Change | Gap, newer: Change | Gap) -> Any:
    """Merge two changes of one object of which the subscriber has seen neither.

    ========  ==========  ==========  ========
    older     + enter     + update    + exit
    ========  ==========  ==========  ========
    enter     enter       enter       nothing
    update    update      update      exit
    exit      update      update      exit
    ========  ==========  ==========  ========
    """
    if isinstance(older, Gap) or isinstance(newer, Gap):
        return newer
    if newer.kind == "exit":
        return DROPPED if older.kind == "enter" else newer
    kind: ChangeKind = "enter" if older.kind == "enter" else "update"
    return newer if newer.kind == kind else Change(kind, newer.type, newer.id, newer.object)


def _overflowed(missed: int) -> Gap:
    return Gap("overflow", missed)


class Changes(Subscription["Change | Gap"]):
    """A subscriber's changes; enter it with ``async with`` and iterate inside.

    Attributes:
        types: the types asked for; empty for all.
        filter: what objects must match, or None.
        delivered: changes and gaps received so far.
        dropped: changes lost to overflow so far.
    """

    def __init__(
        self,
        feed: Feed,
        types: frozenset[str],
        filter: Filter | None,
        overflow: Overflow,
        buffer: int,
    ) -> None:
        super().__init__(overflow=overflow, buffer=buffer, lost=_overflowed, merge=merge_changes)
        self.types = types
        self.filter = filter
        self._feed = feed
        self._view: set[str] = set()  # ids that match the filter; unused without one
        self._matches = None if filter is None else filter.matches

    async def __aenter__(self) -> Self:
        """Connect, learn what is there, and subscribe: changes from here on are delivered.

        Raises:
            AuthenticationError, ConnectionLost, Timeout, ApiError: it could not be set up.
        """
        await self._feed.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._feed.remove(self)

    # What follows is called by the feed, for objects of the subscriber's types.

    def entered(self, change: Change) -> None:
        """Take an object that was added or has changed."""
        if self._matches is None:
            self.put(change, change.id)
            return
        # With a filter, what counts is whether the object was in view, not whether it was there.
        view, object_id = self._view, change.id
        if self._matches(change.object):
            kind: ChangeKind = "update" if object_id in view else "enter"
            view.add(object_id)
        elif object_id in view:
            kind = "exit"
            view.discard(object_id)
        else:
            return
        self.put(change if kind == change.kind else change._replace(kind=kind), object_id)

    def exited(self, change: Change) -> None:
        """Take an object that is gone, or, with its new record, is now of a type that is not asked for."""
        if self._matches is not None:
            if change.id not in self._view:
                return
            self._view.discard(change.id)
        self.put(change, change.id)

    def seen(self, ids: Iterable[str]) -> None:
        """Learn which objects match the filter already."""
        self._view.update(ids)


class Feed:
    """Turns notifications into changes for any number of subscribers; a listener of the connection."""

    def __init__(self, connection: Connection, rest: Rest) -> None:
        self._connection = connection
        self._rest = rest
        self._subscribers: list[Changes] = []
        self._by_type: dict[str, tuple[Changes, ...]] = {}
        self._for_all: tuple[Changes, ...] = ()
        self._types: dict[str, str] = {}  # id to type, of every object of a listed type
        self._listed: set[str] = set()
        self._listing = asyncio.Lock()
        self._faults = 0

    def __repr__(self) -> str:
        return f"<Feed subscribers={len(self._subscribers)} known={len(self._types)}>"

    async def add(self, changes: Changes) -> None:
        """Subscribe; returns once what is there is known."""
        await self._connection.open()
        # First listening, then listing: what changes in between is noted.
        self._connection.listen(self)
        self._subscribers.append(changes)
        try:
            wanted = changes.types or LISTED_IN.keys()
            for type_ in wanted:
                if changes.filter is not None:
                    changes.seen(await self._ids(type_, changes.filter))
                async with self._listing:
                    if type_ not in self._listed:
                        await self._list(type_)
        except BaseException:
            self.remove(changes)
            raise
        self._route()

    def remove(self, changes: Changes) -> None:
        """Unsubscribe; with the last one gone, nothing is listened to and nothing remembered."""
        self._subscribers = [other for other in self._subscribers if other is not changes]
        self._route()
        if not self._subscribers:
            self._connection.unlisten(self)
            self._types.clear()
            self._listed.clear()

    def _route(self) -> None:
        by_type: dict[str, list[Changes]] = {}
        for changes in self._subscribers:
            for type_ in changes.types:
                by_type.setdefault(type_, []).append(changes)
        self._for_all = tuple(changes for changes in self._subscribers if not changes.types)
        self._by_type = {type_: (*some, *self._for_all) for type_, some in by_type.items()}

    async def _list(self, type_: str) -> None:
        for object_id in await self._ids(type_, None):
            # Not over what a notification said meanwhile, which is newer.
            self._types.setdefault(object_id, type_)
        self._listed.add(type_)

    async def _ids(self, type_: str, filter: Filter | None) -> list[str]:
        ids: list[str] = []
        for collection in LISTED_IN.get(type_, ()):
            try:
                params = {"filter": None if filter is None else str(filter)}
                async with self._rest.stream(f"/{collection}", params=params) as hrefs:
                    ids += [str(href).rpartition("/")[2] async for href in hrefs]
            except (ApiError, AuthenticationError) as error:
                # An older server lacks some collections, and a user may lack the right to one: no reason to give up
                # the feed, which needs neither.
                logger.debug("%s cannot be listed: %s", collection, error)
        return ids

    # The connection's side; see `aioxo.rpc.Listener`.

    def notified(self, notification: Notification) -> None:
        """Take one notification."""
        if notification.method != "all":
            return
        params = notification.params
        kind = params.get("type") if type(params) is dict else None
        items = params.get("items") if type(params) is dict else None
        if type(items) is not dict or type(kind) is not str or kind not in {"enter", "exit"}:
            self.malformed(ProtocolError(f"a notification of changes is not one: {excerpt(str(params))}"))
        elif kind == "enter":
            for object_id, record in items.items():
                self._enter(object_id, record)
        else:
            for object_id in items:
                self._exit(object_id)

    def _enter(self, object_id: str, record: Any) -> None:
        type_ = record.get("type") if type(record) is dict else None
        if type(type_) is not str:
            self.malformed(ProtocolError(f"object {excerpt(object_id)} has no type: {excerpt(str(record))}"))
            return
        # The table is large and mostly right already: looking is cheaper than writing.
        before = self._types.get(object_id)
        if before == type_:
            change = Change("update", type_, object_id, record)
        elif before is None:
            self._types[object_id] = type_
            change = Change("enter", type_, object_id, record)
        else:
            self._types[object_id] = type_
            self._retype(object_id, before, type_, record)
            return
        for changes in self._by_type.get(type_, self._for_all):
            changes.entered(change)

    def _retype(self, object_id: str, before: str, type_: str, record: Record) -> None:
        """A VM turned into a template keeps its id: it leaves for those who asked for VMs alone."""
        for changes in self._by_type.get(before, ()):
            if changes.types and type_ not in changes.types:
                changes.exited(Change("exit", before, object_id, record))
        for changes in self._by_type.get(type_, self._for_all):
            known = not changes.types or before in changes.types
            changes.entered(Change("update" if known else "enter", type_, object_id, record))

    def _exit(self, object_id: str) -> None:
        type_ = self._types.pop(object_id, None)
        if type_ is None:
            return  # never seen by anybody here
        change = Change("exit", type_, object_id, None)
        for changes in self._by_type.get(type_, self._for_all):
            changes.exited(change)

    def malformed(self, error: ProtocolError) -> None:
        """Tell everyone that something may have been missed; log the first."""
        self._faults += 1
        log = logger.warning if self._faults == 1 else logger.debug
        log("%s", error)
        for changes in self._subscribers:
            changes.put(Gap("malformed", None))

    def disconnected(self) -> None:
        """Tell everyone that from here on things are missed."""
        for changes in self._subscribers:
            changes.put(Gap("disconnected", None))

    def ended(self, error: XOError | None) -> None:
        """Tell everyone that it is over."""
        for changes in self._subscribers:
            changes.end(error)


class Notifications(Subscription["Notification | Gap"]):
    """Every JSON-RPC notification as it came; enter it with ``async with`` and iterate inside.

    Attributes:
        delivered: notifications and gaps received so far.
        dropped: notifications lost to overflow so far.
    """

    def __init__(self, connection: Connection, overflow: Overflow, buffer: int) -> None:
        if overflow == "latest":
            message = 'a notification has no key to merge by; take overflow="drop_oldest" or "fail"'
            raise ConfigurationError(message)
        super().__init__(overflow=overflow, buffer=buffer, lost=_overflowed)
        self._connection = connection

    async def __aenter__(self) -> Self:
        """Connect and subscribe.

        Raises:
            AuthenticationError, ConnectionLost, Timeout: there is no connection.
        """
        await self._connection.open()
        self._connection.listen(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._connection.unlisten(self)

    def notified(self, notification: Notification) -> None:
        """Take one notification."""
        self.put(notification)

    def malformed(self, error: ProtocolError) -> None:  # noqa: ARG002
        """Leave a gap."""
        self.put(Gap("malformed", None))

    def disconnected(self) -> None:
        """Leave a gap."""
        self.put(Gap("disconnected", None))

    def ended(self, error: XOError | None) -> None:
        """End the iteration."""
        self.end(error)
