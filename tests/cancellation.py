"""Cancel a coroutine at every place where it can be cancelled, one place at a time.

A coroutine can be cancelled wherever it is suspended, in two ways that differ: while what it waits for is still to
come, and in the moment in which that is there already but the task has not run again. The second one is where results
get lost, and no test that cancels from outside meets it reliably. So the awaiting is done here by hand.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator

__all__ = ["cancelled_at_every_await"]

#: Far more suspensions than anything in the tests has: an operation that never gets done is a mistake of the test.
_MOST: Final = 400


class _Cancelling:
    """Awaits a coroutine and has the task cancelled at suspension number `at` (1-based)."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, *, late: bool) -> None:
        self.reached = False
        self._coroutine = coroutine
        self._at = at
        self._late = late

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        count = 0
        error: BaseException | None = None
        while True:
            try:
                # Not a plain `yield from`: each suspension has to pass here.
                awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            count += 1
            if count == self._at:
                self.reached = True
                if not self._late:
                    task.cancel()
                elif awaited is None:  # asyncio.sleep(0)
                    asyncio.get_running_loop().call_soon(task.cancel)
                else:
                    # Added before the task's own callback, which wakes it: the cancellation comes just in between.
                    awaited.add_done_callback(lambda _: task.cancel())
            try:
                yield awaited
            except BaseException as raised:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                error = raised


async def cancelled_at_every_await(
    operation: Callable[[], Coroutine[Any, Any, Any]], check: Callable[[], Awaitable[object]]
) -> AsyncIterator[BaseException | Any]:
    """Run `operation` again and again, each time cancelled one await later, until it gets through; `check` after each.

    Yields what came of each run that was cancelled: a `asyncio.CancelledError`, or the result when the operation had
    its reasons to finish all the same.
    """
    for late in (False, True):
        for at in range(1, _MOST):
            cancelling = _Cancelling(operation(), at, late=late)
            task: asyncio.Task[Any] = asyncio.ensure_future(_run(cancelling))
            outcome: Any = (await asyncio.gather(task, return_exceptions=True))[0]
            await check()
            if not cancelling.reached:
                if isinstance(outcome, BaseException):
                    raise outcome
                break
            yield outcome
        else:
            message = f"still not done after {_MOST} suspensions"
            raise AssertionError(message)


async def _run(cancelling: _Cancelling) -> Any:
    return await cancelling
