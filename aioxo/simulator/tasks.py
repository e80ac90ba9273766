"""XO tasks: the records under `/tasks` of what REST actions do. XAPI tasks are something else: objects in the store.

`Tasks.start` makes a record, runs an async function under it and keeps the record up to date until that ends. Who
waits for the result and goes away does not stop it. Aborting is a request: it is noted on the record, and the action
goes on to its end, as most do on a real server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aioxo.simulator.failures import Failure, NoSuchObject

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from aioxo.simulator.clock import Clock

Record = dict[str, Any]
logger = logging.getLogger(__name__)
KEPT = 1000
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TaskEvent:
    """A record appeared or changed ("update"), or was deleted ("remove"; `record` is then the last one)."""

    kind: Literal["update", "remove"]
    record: Record


class Tasks:
    """The records by id, in the order of their start; the last `KEPT` finished ones are kept."""

    def __init__(self, rng: random.Random, clock: Clock) -> None:
        self._rng = rng
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._listeners: list[Callable[[TaskEvent], None]] = []

    def get(self, task_id: str) -> Record:
        """Return the record with this id; `NoSuchObject` when there is none."""
        record = self._records.get(task_id)
        if record is None:
            raise NoSuchObject(task_id, "task")
        return record

    def all(self) -> list[Record]:
        """Return all records in the order of their start."""
        return list(self._records.values())

    def about(self, object_id: str) -> list[Record]:
        """Return the records of what was done to one object."""
        return [
            record
            for record in self._records.values()
            if record["properties"].get("objectId") == object_id
            or record["properties"].get("params", {}).get("id") == object_id
        ]

    def start(self, properties: Record, work: Callable[[], Awaitable[Any]]) -> tuple[str, asyncio.Task[Any]]:
        """Run `work` under a new record; return its id and the asyncio task, whose result or failure is the work's."""
        now = self._clock.milliseconds()
        task_id = self._new_id(now)
        self._records[task_id] = {
            "id": task_id,
            "properties": properties,
            "start": now,
            "status": "pending",
            "updatedAt": now,
        }
        self._announce("update", self._records[task_id])
        running = asyncio.get_running_loop().create_task(self._run(task_id, work))
        self._running[task_id] = running
        running.add_done_callback(lambda done: self._ended(task_id, done))
        self._forget_oldest()
        return task_id, running

    async def wait(self, task_id: str, *, any_change: bool = False) -> Record:
        """Return the record once it is not pending any more, or with `any_change` at its next change.

        Raises `NoSuchObject` when there is none or it is deleted meanwhile. Cancelling is harmless.
        """
        while self.get(task_id)["status"] == "pending":
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(task_id, [])
            waiters.append(waiter)
            try:
                await waiter
            finally:
                with contextlib.suppress(ValueError):  # gone already when it was woken
                    waiters.remove(waiter)
            if any_change:
                break
        return self.get(task_id)

    def abort(self, task_id: str) -> None:
        """Note on the record that an abortion was asked for; `NoSuchObject` when nothing of this id is running."""
        if task_id not in self._running:
            raise NoSuchObject(task_id, "task")
        now = self._clock.milliseconds()
        self._change(task_id, updatedAt=now, abortionRequestedAt=now)

    def delete(self, task_id: str) -> None:
        """Delete the record; what runs goes on and writes it again at its end. `NoSuchObject` when there is none."""
        record = self.get(task_id)
        del self._records[task_id]
        self._announce("remove", record)

    def subscribe(self, listener: Callable[[TaskEvent], None]) -> Callable[[], None]:
        """Have `listener` called with each event; return the function that ends it. It must not raise."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def close(self) -> None:
        """Cancel what runs and wait until it has ended."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, task_id: str, work: Callable[[], Awaitable[Any]]) -> Any:
        started = self._records[task_id]
        try:
            result = await work()
        except asyncio.CancelledError:
            raise
        except Failure as failure:
            self._finish(task_id, started, "failure", failure.serialised())
            raise
        except Exception as error:
            logger.exception("task %s failed", task_id)
            mistake = Failure(str(error))
            self._finish(task_id, started, "failure", mistake.serialised())
            raise mistake from error
        self._finish(task_id, started, "success", result)
        return result

    def _finish(self, task_id: str, started: Record, status: str, result: Any) -> None:
        now = self._clock.milliseconds()
        record = self._records.get(task_id, started) | {"status": status, "updatedAt": now}
        # What comes later goes later: the record of an aborted action has its `end` behind `abortionRequestedAt`.
        record["end"] = now
        if result is not None:
            record["result"] = result
        self._records[task_id] = record
        self._announce("update", record)

    def _change(self, task_id: str, **changes: Any) -> None:
        self._records[task_id] = self.get(task_id) | changes
        self._announce("update", self._records[task_id])

    def _announce(self, kind: Literal["update", "remove"], record: Record) -> None:
        for waiter in self._waiters.pop(record["id"], ()):
            if not waiter.done():
                waiter.set_result(None)
        for listener in tuple(self._listeners):
            listener(TaskEvent(kind, record))

    def _ended(self, task_id: str, done: asyncio.Task[Any]) -> None:
        del self._running[task_id]
        if not done.cancelled():
            done.exception()  # an action nobody waits for fails into its record only

    def _forget_oldest(self) -> None:
        while len(self._records) > KEPT + len(self._running):
            oldest = next((key for key in self._records if key not in self._running), None)
            if oldest is None:
                return
            self.delete(oldest)

    def _new_id(self, now: int) -> str:
        return f"{_base36(now).rjust(9, '0')}-{_base36(self._rng.getrandbits(56))}"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
