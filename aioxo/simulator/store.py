"""The one table of objects behind REST, the websocket and the event stream.

Objects are plain dicts, replaced and never mutated, so whoever holds one holds a snapshot. An object that is put again
moves to the end, as on a real server; listings follow that order.

Every change since the last flush is pending, one entry per id. A flush turns what is pending into one `Flush` (what
entered or changed, what left) and hands it to the listeners. The first change after a quiet while is flushed at once,
further ones at most every `flush_interval` seconds, so a burst on one object is one change.

A real server answers reads from a cache that the pool's events feed. With `eventual=True` the store does so too:
`current` is what the pool knows, everything else shows what the last flush brought. Otherwise both are the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import NoSuchObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Object = dict[str, Any]
FLUSH_INTERVAL = 0.2


@dataclass(frozen=True)
class Flush:
    """Changes of one moment; an id is in `entered` or in `exited`, never in both.

    Attributes:
        entered: new and changed objects by id, in the order of their last change.
        previous: for each id in `entered`, the object that was shown before, None for a new one.
        exited: the last shown state of each object that is gone, by id.
    """

    entered: Mapping[str, Object]
    previous: Mapping[str, Object | None]
    exited: Mapping[str, Object]


class Store:
    """Objects by id, by type and by XAPI reference, with coalesced change events.

    Args:
        objects: the initial objects; they are not announced.
        flush_interval: least seconds between two flushes.
        eventual: whether reads lag behind the pool until the next flush.
    """

    def __init__(
        self, objects: Iterable[Object] = (), *, flush_interval: float = FLUSH_INTERVAL, eventual: bool = False
    ) -> None:
        self.flush_interval = flush_interval
        self._shown: dict[str, Object] = {}
        self._by_type: dict[str, dict[str, Object]] = {}
        self._by_ref: dict[str, str] = {}
        self._before: dict[str, Object | None] = {}
        self._listeners: list[Callable[[Flush], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._flushed_at = float("-inf")
        for item in objects:
            self._show(item["id"], item)
        self._current = dict(self._shown) if eventual else self._shown

    # --- reading

    def __len__(self) -> int:
        return len(self._shown)

    def get(self, key: str) -> Object | None:
        """Return the object with this id or XAPI reference as readers see it, or None."""
        return self._shown.get(key) or self._shown.get(self._by_ref.get(key, ""))

    def find(self, key: str, kind: str | list[str] | None = None) -> Object:
        """Return the object with this id or reference if it is of `kind` (a type, several, None: any).

        Raises `NoSuchObject`, worded with `kind`, otherwise.
        """
        item = self.get(key)
        if item is None or not (kind is None or item["type"] == kind or item["type"] in _listed(kind)):
            raise NoSuchObject(key, kind)
        return item

    def current(self, key: str) -> Object:
        """Return the object with this id as the pool knows it; `KeyError` when there is none."""
        return self._current[key]

    def exists(self, key: str) -> bool:
        """Tell whether the pool has an object with this id."""
        return key in self._current

    def of_type(self, kind: str) -> list[Object]:
        """Return the objects of one type in listing order."""
        return list(self._by_type.get(kind, {}).values())

    def ids(self, kind: str) -> list[str]:
        """Return the ids of one type in listing order."""
        return list(self._by_type.get(kind, {}))

    def all(self) -> Mapping[str, Object]:
        """Return all objects by id, live: do not hold it across an await."""
        return self._shown

    @property
    def pool(self) -> PoolTable:
        """What the pool itself knows and changes: a table for `inventory.edits`."""
        return PoolTable(self)

    # --- changing

    def put(self, item: Object) -> None:
        """Add or replace an object; either way it comes last from now on."""
        self._note(item["id"])
        if self._current is not self._shown:
            self._current[item["id"]] = item
        else:
            self._show(item["id"], item)
        self._schedule()

    def update(self, key: str, **changes: Any) -> Object:
        """Replace fields of the object with this id; return the new object. `KeyError` when there is none."""
        item = self._current[key] | changes
        self.put(item)
        return item

    def remove(self, key: str) -> None:
        """Remove the object with this id; `KeyError` when there is none."""
        item = self._current[key]
        self._note(item["id"])
        if self._current is not self._shown:
            del self._current[key]
        else:
            self._hide(key)
        self._schedule()

    # --- events

    def subscribe(self, listener: Callable[[Flush], None]) -> Callable[[], None]:
        """Have `listener` called with each flush; return the function that ends it. It must not raise."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def start(self) -> None:
        """Flush by itself from now on, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        if self._before:
            self._schedule()

    def stop(self) -> None:
        """Flush no more by itself."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flush(self) -> None:
        """Announce what is pending now; nothing pending is no flush."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._flushed_at = self._loop.time()
        before, self._before = self._before, {}
        entered: dict[str, Object] = {}
        exited: dict[str, Object] = {}
        for key, previous in before.items():
            item = self._current.get(key)
            if item is not None:
                entered[key] = item
            elif previous is not None:
                exited[key] = previous
        if self._current is not self._shown:
            for key, item in entered.items():
                self._show(key, item)
            for key in exited:
                self._hide(key)
        if entered or exited:
            change = Flush(entered, {key: before[key] for key in entered}, exited)
            for listener in tuple(self._listeners):
                listener(change)

    def _note(self, key: str) -> None:
        """Mark `key` as changed, last of all, remembering what was shown at the last flush."""
        previous = self._before.pop(key) if key in self._before else self._shown.get(key)
        self._before[key] = previous

    def _schedule(self) -> None:
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_at(max(self._loop.time(), self._flushed_at + self.flush_interval), self.flush)

    def _show(self, key: str, item: Object) -> None:
        if key in self._shown:
            self._hide(key)
        self._shown[key] = item
        self._by_type.setdefault(item["type"], {})[key] = item
        self._by_ref[item["_xapiRef"]] = key

    def _hide(self, key: str) -> None:
        item = self._shown.pop(key)
        del self._by_type[item["type"]][key]
        self._by_ref.pop(item["_xapiRef"], None)


def _listed(kind: str | list[str] | None) -> list[str]:
    return kind if isinstance(kind, list) else []


class PoolTable:
    """The objects as the pool knows them, ahead of what readers see when the store is eventual."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, object_id: str, /) -> Object | None:
        """Return the object, None when there is none of that id."""
        return self._store.current(object_id) if self._store.exists(object_id) else None

    def ids(self, object_type: str, /) -> list[str]:
        """Return the ids of all objects of a type."""
        return self._store.ids(object_type)

    def put(self, item: Object, /) -> None:
        """Add the object, or replace the one of the same id."""
        self._store.put(item)

    def remove(self, object_id: str, /) -> None:
        """Remove the object of that id."""
        self._store.remove(object_id)
