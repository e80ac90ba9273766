"""What an action becomes on the server: a task that can be waited for.

An action is accepted at once and runs as a task. Waiting is one long poll, not a loop of short ones: the server holds
the answer back until the task has ended. Two dialects: today the query is ``wait=true``; servers up to 2025 took any
value but "result" to mean "until the next change", so the same request works there, asked again while it is pending.

The task goes on whatever happens to the connection, so a wait that is cut off is simply asked again.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from .backoff import Backoff
from .errors import (
    CannotConnect,
    ConfigurationError,
    ConnectionLost,
    ProtocolError,
    ServiceUnavailable,
    TaskFailed,
    Timeout,
    XOError,
)
from .rest import segment

if TYPE_CHECKING:
    from .models import Record
    from .rest import Answer, Rest

__all__ = ["Task"]

_RETRY: Final = Backoff(first=0.5, limit=10.0)
_RETRIES: Final = 20
#: Seconds after which a long poll is given up and asked again.
POLL_LIMIT: Final = 300.0
#: Seconds after which a poll that failed counts as one that was held, not refused.
HELD: Final = 5.0
#: Least seconds between two polls of a task that is still pending.
PAUSE: Final = 0.5


class Task:
    """An action under way on the server.

    Attributes:
        id: the task's id; None when the server answered at once, so that there is no task to ask for.
        record: the task as last seen; empty before the first look.
    """

    def __init__(self, rest: Rest, task_id: str | None, *, result: Any = None) -> None:
        self.id = task_id
        self.record: Record = {}
        self._rest = rest
        if task_id is None:
            self.record = {"status": "success", "result": result}

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.status}>"

    @property
    def status(self) -> str:
        """Last seen: "pending", "success", "failure" or "interrupted"; "unknown" before the first look."""
        return str(self.record.get("status", "unknown"))

    async def refresh(self) -> Record:
        """Look at the task once, without waiting, and return its record.

        Raises:
            NotFound: the server has forgotten the task.
            ConnectionLost, Timeout, ApiError: there was no proper answer.
        """
        if self.id is not None:
            answer = await self._rest.request("GET", f"/tasks/{segment(self.id)}")
            self._take(answer)
        return self.record

    async def wait(self, timeout: float | None = None) -> Any:
        """Wait until the task has ended and return its result, decoded; None when it gives none.

        A lost connection is no failure: the task goes on, and so does the wait. Cancelling stops waiting, not the task.

        Args:
            timeout: seconds to wait at the most, or None for no limit.

        Raises:
            TaskFailed: the task failed, or the server was restarted in the middle of it.
            Timeout: it has not ended within `timeout`; it goes on.
            NotFound: the server has forgotten the task.
            AuthenticationError: the token is refused.
            ConnectionLost, ServiceUnavailable: the server stayed away for too long; nothing is known of the task.
            ProtocolError: the answer is no task.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.status in {"pending", "unknown"}:
                    await self._long_poll()
        except TimeoutError as error:
            if isinstance(error, XOError):
                raise
            message = f"task {self.id} has not ended within {timeout} s; it goes on"
            raise Timeout(message, limit="timeout", seconds=timeout or 0.0) from None
        if self.status == "success":
            return self.record.get("result")
        raise self._failure()

    async def _long_poll(self) -> None:
        """Ask once for the end; what only the connection is to blame for is asked again."""
        assert self.id is not None
        path, loop, failures = f"/tasks/{segment(self.id)}", asyncio.get_running_loop(), 0
        while True:
            asked = loop.time()
            try:
                # Bounded, for a connection that is half open says nothing for ever.
                answer = await self._rest.request("GET", path, params={"wait": True}, read_timeout=POLL_LIMIT)
            except (ConnectionLost, ServiceUnavailable, Timeout) as error:
                # One that was held for a while was cut by a proxy's own limit, which is no failure.
                held = loop.time() - asked >= HELD and not _is_unreachable(error)
                failures = 0 if held else failures + 1
                if failures >= _RETRIES:
                    raise
                await asyncio.sleep(_RETRY.delay(failures, random.random))
                continue
            self._take(answer)
            if self.status == "pending":
                # An old server answers at each change, and some proxy at once.
                await asyncio.sleep(max(0.0, PAUSE - (loop.time() - asked)))
            return

    def _take(self, answer: Answer) -> None:
        if not isinstance(answer.value, dict) or "status" not in answer.value:
            message = f"task {self.id}: the answer is not a task"
            raise ProtocolError(message)
        self.record = answer.value

    async def abort(self) -> None:
        """Ask the server to abort the task; it stays pending until its code reacts, and some never does.

        Raises:
            NotFound: the server has forgotten the task.
            ApiError, ConnectionLost, Timeout: the request was refused or not answered.
        """
        if self.id is None:
            message = "there is nothing to abort: the server had finished before it answered"
            raise ConfigurationError(message)
        await self._rest.request("POST", f"/tasks/{segment(self.id)}/actions/abort")

    def _failure(self) -> TaskFailed:
        result = self.record.get("result")
        details = result if isinstance(result, dict) else {}
        properties = self.record.get("properties")
        name = properties.get("name", "") if isinstance(properties, dict) else ""
        params = details.get("params")
        reason = details.get("message") or (
            "the server was restarted in the middle of it" if self.status == "interrupted" else "no reason given"
        )
        return TaskFailed(
            f"task {self.id}{f' ({name})' if name else ''}: {self.status}: {reason}",
            task=self.record,
            code=details.get("code"),
            params=tuple(params) if isinstance(params, list) else (),
        )


def _is_unreachable(error: XOError) -> bool:
    """Tell whether there was not even a connection, which can take as long to show as a poll is held."""
    return isinstance(error, CannotConnect) or (isinstance(error, Timeout) and error.limit == "connect")


def task_from(rest: Rest, answer: Answer) -> Task:
    """Return the task that the answer to an action names, in either dialect.

    Raises:
        ProtocolError: it was accepted but names none.
    """
    if answer.status != 202:
        return Task(rest, None, result=answer.value)
    task_id = None
    if isinstance(answer.value, dict):
        task_id = answer.value.get("taskId")
    elif isinstance(answer.value, str):
        task_id = answer.value.strip().rpartition("/")[2]
    task_id = task_id or answer.headers.get("Location", "").rpartition("/")[2]
    if not task_id or not isinstance(task_id, str):
        message = "the action was accepted, but the answer names no task"
        raise ProtocolError(message)
    return Task(rest, task_id)
