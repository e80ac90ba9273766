"""What the server says by itself, as changes of objects.

xo-server sends one notification, ``all``, to everybody: ``enter`` with whole objects that were added *or* changed, and
``exit`` with ids. The feed makes of it what subscribers want to know: did the object come into view, change, or leave.

That takes knowing what was there before, and the server tells only by listing it. So the first subscriber of a type
has the ids of that type listed (a cheap request, ids alone), and the feed keeps them up to date from then on, one table
for all subscribers. A subscriber with a filter has its own view, listed the same way, the server evaluating the filter.

A list and the notifications that come while it is made overtake each other. What was notified since the request is
newer, so ids that were touched meanwhile are not taken from the list.

After a cut nothing is replayed. Every subscriber gets a `Gap`; the tables are kept until somebody subscribes to the
type again, so an object that came during the cut enters when it first changes. Whoever needs more than that wants a
mirror.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from .errors import (
    AuthenticationError,
    ConfigurationError,
    MethodNotFound,
    NotFound,
    ProtocolError,
    Unauthorized,
    XOError,
    excerpt,
)
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
#: The other types that xo-server sends; their objects enter when they are first seen.
UNLISTED: Final = frozenset(
    "PUSB USB_group VDI-unmanaged VTPM VUSB bond gpuGroup patch pool_patch task vgpu vgpuType".split()
)
_BY_LOWER_CASE: Final = {type_.lower(): type_ for type_ in (*LISTED_IN, *UNLISTED)}


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
        for type_ in types:
            # Waiting for ever for "vm" would be no help. A type that is not known at all may be a newer server's.
            if (meant := _BY_LOWER_CASE.get(type_.lower(), type_)) != type_:
                message = f"there is no type {type_!r}; {meant!r} is how it is written"
                raise ConfigurationError(message)
        self.types = types
        self.filter = filter
        self._feed = feed
        self._unopened = "enter the subscription first: `async with xo.changes(...) as changes`"
        self._view: set[str] = set()  # ids that match the filter; unused without one
        self._touched: set[str] | None = set()  # with a filter: ids notified of while the view is being listed
        self._matches = None if filter is None else filter.matches

    async def __aenter__(self) -> Self:
        """Connect, learn what is there, and subscribe: changes from here on are delivered.

        Raises:
            AuthenticationError, ConnectionLost, Timeout: the server cannot be reached.
            InvalidParameters: the server refuses the filter.
            ApiError: what is there cannot be listed.
        """
        await self._feed.add(self)
        self._unopened = ""
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
        known = object_id in view
        if matches := self._matches(change.object):
            view.add(object_id)
        else:
            view.discard(object_id)
        if self._touched is not None:
            self._touched.add(object_id)
        elif matches or known:
            kind: ChangeKind = "exit" if not matches else "update" if known else "enter"
            self.put(change if kind == change.kind else change._replace(kind=kind), object_id)

    def exited(self, change: Change) -> None:
        """Take an object that is gone, or, with its new record, is now of a type that is not asked for."""
        if self._matches is not None:
            known = change.id in self._view
            self._view.discard(change.id)
            if self._touched is not None:
                self._touched.add(change.id)
                return
            if not known:
                return
        self.put(change, change.id)

    def seen(self, ids: Iterable[str]) -> None:
        """Learn which objects match the filter already."""
        self._view.update(set(ids).difference(self._touched or ()))

    def begin(self) -> None:
        """Deliver from here on."""
        self._touched = None


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
        self._touched: set[str] | None = None  # ids notified of while a type is being listed
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
            # A view is kept up to date from the start; without one there is nothing to do before the end.
            self._route(changes if changes.filter is None else None)
            for type_ in changes.types or LISTED_IN:
                if changes.filter is not None:
                    changes.seen(await self._ids(type_, changes.filter))
                async with self._listing:
                    if type_ not in self._listed:
                        await self._list(type_)
        except BaseException:
            self.remove(changes)
            raise
        changes.begin()
        self._route()

    def remove(self, changes: Changes) -> None:
        """Unsubscribe; with the last one gone, nothing is listened to and nothing remembered."""
        self._subscribers = [other for other in self._subscribers if other is not changes]
        self._route()
        if not self._subscribers:
            self._connection.unlisten(self)
            self._types.clear()
            self._listed.clear()

    def _route(self, without: Changes | None = None) -> None:
        """Work out who is told of which type; `without` one that is not ready."""
        ready = [changes for changes in self._subscribers if changes is not without]
        by_type: dict[str, list[Changes]] = {}
        for changes in ready:
            for type_ in changes.types:
                by_type.setdefault(type_, []).append(changes)
        self._for_all = tuple(changes for changes in ready if not changes.types)
        self._by_type = {type_: (*some, *self._for_all) for type_, some in by_type.items()}

    async def _list(self, type_: str) -> None:
        self._touched = set()
        try:
            listed = set(await self._ids(type_, None))
            # What a notification said meanwhile is newer, and what an earlier list said is older.
            stale = [known for known, known_as in self._types.items() if known_as == type_ and known not in listed]
            for object_id in set(stale) - self._touched:
                del self._types[object_id]
            for object_id in listed - self._touched:
                self._types[object_id] = type_
        finally:
            self._touched = None
        self._listed.add(type_)

    async def _ids(self, type_: str, filter: Filter | None) -> list[str]:
        ids: list[str] = []
        for collection in LISTED_IN.get(type_, ()):
            try:
                params = {"filter": None if filter is None else str(filter)}
                async with self._rest.stream(f"/{collection}", params=params) as hrefs:
                    ids += [str(href).rpartition("/")[2] async for href in hrefs]
            except (AuthenticationError, MethodNotFound, NotFound, Unauthorized) as error:
                # An older server lacks some collections, and a user may lack the right to one (old ones say 401): no
                # reason to give up the feed, which needs neither.
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
            self.malformed(ProtocolError(f"a notification of changes is not one: {_describe(params)}"))
        elif kind == "enter":
            for object_id, record in items.items():
                self._enter(object_id, record)
        else:
            for object_id in items:
                self._exit(object_id)

    def _enter(self, object_id: str, record: Any) -> None:
        type_ = record.get("type") if type(record) is dict else None
        if type(type_) is not str:
            self.malformed(ProtocolError(f"object {excerpt(object_id)} has no type: {_describe(record)}"))
            return
        subscribers = self._by_type.get(type_, self._for_all)
        if self._touched is not None:
            self._touched.add(object_id)
        # The table is large and mostly right already: looking is cheaper than writing.
        before = self._types.get(object_id)
        if before == type_:
            change = Change("update", type_, object_id, record)
        elif before is not None:
            self._retype(object_id, before, type_, record)
            return
        elif subscribers or self._touched is not None:
            self._types[object_id] = type_
            change = Change("enter", type_, object_id, record)
        else:
            return  # of a type that nobody asks for
        for changes in subscribers:
            changes.entered(change)

    def _retype(self, object_id: str, before: str, type_: str, record: Record) -> None:
        """A VM turned into a template keeps its id: it leaves for those who asked for VMs alone."""
        self._types[object_id] = type_
        for changes in self._by_type.get(before, ()):
            if changes.types and type_ not in changes.types:
                changes.exited(Change("exit", before, object_id, record))
        for changes in self._by_type.get(type_, self._for_all):
            known = not changes.types or before in changes.types
            changes.entered(Change("update" if known else "enter", type_, object_id, record))

    def _exit(self, object_id: str) -> None:
        if self._touched is not None:
            self._touched.add(object_id)
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
            changes.mark(Gap("malformed", None))

    def disconnected(self) -> None:
        """Tell everyone that from here on things are missed."""
        self._listed.clear()
        # Objects of types that no list has, tasks above all, come and go: none of them is expected back.
        self._types = {known: type_ for known, type_ in self._types.items() if type_ in LISTED_IN}
        for changes in self._subscribers:
            changes.mark(Gap("disconnected", None))

    def ended(self, error: XOError | None) -> None:
        """Tell everyone that it is over."""
        for changes in self._subscribers:
            changes.end(error)


def _describe(value: Any) -> str:
    """Say what came instead, without rendering what may be 80,000 objects."""
    if type(value) is dict:
        return "an object with " + excerpt(", ".join(map(str, islice(value, 8))) or "nothing in it")
    return excerpt(str(value)) if type(value) in {str, int, float, bool, type(None)} else f"a {type(value).__name__}"


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
        self._unopened = "enter the subscription first: `async with xo.notifications() as notifications`"

    async def __aenter__(self) -> Self:
        """Connect and subscribe.

        Raises:
            AuthenticationError, ConnectionLost, Timeout: there is no connection.
        """
        await self._connection.open()
        self._connection.listen(self)
        self._unopened = ""
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
        self.mark(Gap("malformed", None))

    def disconnected(self) -> None:
        """Leave a gap."""
        self.mark(Gap("disconnected", None))

    def ended(self, error: XOError | None) -> None:
        """End the iteration."""
        self.end(error)
