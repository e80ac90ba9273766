"""Fan-out: one publisher that never waits, any number of subscribers that each may be slow in their own way.

The publisher (the task that reads the websocket) calls `Subscription.put`, which only ever changes a bounded queue and
wakes the subscriber. It cannot await, so a subscriber that stopped reading, or that makes a call inside its loop and
thereby waits for this very reader, holds nothing up. What gives instead is stated by the subscriber's overflow policy:

=============  ======================================================================================================
`latest`       one pending item per key: a newer item merges with the one that waits, in its place. Beyond `buffer`
               keys the oldest is dropped.
`drop_oldest`  every item waits; beyond `buffer` the oldest is dropped
`fail`         beyond `buffer` nothing more is queued, and the next receive raises `Lagged`, for this subscriber alone
=============  ======================================================================================================

A drop is never silent: the next item received is the `Gap` that `lost` makes, before the items that are still there.
A mark, such as the gap of a lost connection, is neither dropped nor passed: the items before it are sealed, so that
nothing that comes later merges into them and is received too early.

Receiving is atomic: between taking an item off the queue and returning it there is no await, so a cancelled receive has
taken nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Generic, Literal, Self, TypeVar, cast

from .errors import ConfigurationError, Lagged

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["DROPPED", "Overflow", "Subscription"]

Overflow = Literal["latest", "drop_oldest", "fail"]
T = TypeVar("T")

_OVERFLOWS: Final = ("latest", "drop_oldest", "fail")


class _Dropped:
    def __repr__(self) -> str:
        return "DROPPED"


#: What a `merge` returns when two items cancel each other out, such as an enter and an exit nobody has seen.
DROPPED: Final = _Dropped()


class _Mark(Generic[T]):
    """Tells an item that must not be dropped from others."""

    __slots__ = ("item",)

    def __init__(self, item: T) -> None:
        self.item = item


class Subscription(Generic[T]):
    """One subscriber's bounded queue; an async iterator of what was published to it.

    Attributes:
        delivered: items handed to the subscriber so far.
        dropped: items lost to overflow so far. Merged items are not lost.
    """

    def __init__(
        self,
        *,
        overflow: Overflow,
        buffer: int,
        lost: Callable[[int], T],
        merge: Callable[[T, T], T | _Dropped] | None = None,
    ) -> None:
        """Make an empty, open subscription.

        Args:
            overflow: the policy, see the module.
            buffer: most items that wait at once; at least 1.
            lost: makes the item that tells the subscriber how many were dropped.
            merge: for "latest": what one item for a key becomes when a newer one arrives. None: the newer one.

        Raises:
            ConfigurationError: no such policy, or a buffer below 1.
        """
        if overflow not in _OVERFLOWS:
            message = f"overflow must be one of {', '.join(_OVERFLOWS)}, not {overflow!r}"
            raise ConfigurationError(message)
        if buffer < 1:
            message = f"buffer must be at least 1, not {buffer}"
            raise ConfigurationError(message)
        self.delivered = 0
        self.dropped = 0
        self._overflow = overflow
        self._merges = overflow == "latest"
        self._buffer = buffer
        self._limit = buffer  # and one more for each mark that waits, for marks take no room
        self._lost = lost
        self._merge = merge
        # An OrderedDict, because taking the oldest out of a plain dict again and again is quadratic.
        self._items: OrderedDict[Hashable, T] = OrderedDict()
        self._sealed: deque[T | _Mark[T]] = deque()  # comes before the items; no merging any more
        self._sequence = 0
        self._missed = 0
        self._ending: BaseException | None = None
        self._closed = False
        self._inert = False  # closed or ending: takes no more
        self._unopened = ""  # why nothing can be received yet
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return (
            f"<{type(self).__name__} {state} overflow={self._overflow!r} pending={self.pending} "
            f"delivered={self.delivered} dropped={self.dropped}>"
        )

    @property
    def pending(self) -> int:
        """Items that wait to be received."""
        return len(self._items) + len(self._sealed)

    # The publisher's side: synchronous, so that it cannot wait.

    def put(self, item: T, key: Hashable = None) -> None:
        """Queue an item; `key` is what "latest" merges by, and an item without one always stands for itself."""
        if self._inert:
            return
        items = self._items
        if key is None or not self._merges:
            self._sequence += 1
            key = self._sequence
        elif key in items:
            merged = self._merge(items[key], item) if self._merge else item
            if merged is DROPPED:
                del items[key]
            else:
                items[key] = cast("T", merged)
            return
        if len(items) + len(self._sealed) >= self._limit and not self._make_room():
            return
        items[key] = item
        if self._waiter is not None:
            self._wake()

    def mark(self, item: T) -> None:
        """Queue an item that is neither dropped nor passed by others; one that stands at the end already is enough."""
        if self._inert:
            return
        self._sealed.extend(self._items.values())
        self._items.clear()
        for waiting in reversed(self._sealed):
            if not isinstance(waiting, _Mark):
                break
            if waiting.item == item:
                return
        self._sealed.append(_Mark(item))
        self._limit += 1
        self._wake()

    def _make_room(self) -> bool:
        if self._overflow == "fail":
            missed = sum(not isinstance(item, _Mark) for item in self._sealed) + len(self._items) + 1
            self.dropped += missed
            self._sealed.clear()
            self._items.clear()
            self.end(Lagged(missed=missed, buffer=self._buffer))
            return False
        for index, item in enumerate(self._sealed):
            if not isinstance(item, _Mark):
                del self._sealed[index]
                break
        else:
            self._items.popitem(last=False)
        self.dropped += 1
        self._missed += 1
        return True

    def end(self, error: BaseException | None = None) -> None:
        """Let the subscriber receive what waits, and then `error`, or the end of the iteration."""
        self._inert = True
        if self._ending is None:
            self._ending = error if error is not None else StopAsyncIteration()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The subscriber's side.

    def close(self) -> None:
        """Stop receiving at once and drop what waits; a pending receive ends the iteration."""
        self._closed = self._inert = True
        self._sealed.clear()
        self._items.clear()
        self._wake()

    async def receive(self) -> T:
        """Return the next item, waiting for it.

        Safe to cancel: an item is either returned or still queued.

        Raises:
            StopAsyncIteration: the subscription was closed, or what feeds it ended in order.
            Lagged: with overflow="fail", this subscriber was too slow.
            ConfigurationError: the ``async with`` was forgotten.
            XOError: what feeds the subscription gave up; the reason.
        """
        while True:
            if self._items and not self._sealed and not self._missed:
                self.delivered += 1
                return self._items.popitem(last=False)[1]
            if self._closed:
                raise StopAsyncIteration
            if self._missed:
                gap = self._lost(self._missed)
                self._missed = 0
                self.delivered += 1
                return gap
            if self._sealed:
                self.delivered += 1
                first = self._sealed.popleft()
                if not isinstance(first, _Mark):
                    return first
                self._limit -= 1
                return first.item
            if self._ending is not None:
                # Without the traceback of the last time, or it grows with each.
                raise self._ending.with_traceback(None)
            await self._wait()

    async def _wait(self) -> None:
        if self._unopened:
            raise ConfigurationError(self._unopened)
        if self._waiter is not None:
            message = "two tasks receive from one subscription; open one for each"
            raise RuntimeError(message)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def __aiter__(self) -> Self:
        return self

    __anext__ = receive
