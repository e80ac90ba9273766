"""JSON-RPC 2.0 as xo-server speaks it: what to send, and what a received message means.

`Dialogue` holds the one piece of state there is, the calls that have no reply yet. It does no I/O: `Dialogue.call`
gives the bytes to send, `Dialogue.receive` tells what came:

==================  ===================================================================================================
`Reply`             the result of one of our calls, or the exception for its error
`Notification`      something the server says by itself; ``all`` is the only method seen
`ProtocolError`     anything else, as a value: it concerns nobody's call and must not end the connection
==================  ===================================================================================================

Facts that shape it: notifications stand between requests and replies and can outrun the reply to the sign-in;
jsonrpcclient's `parse` fails on a notification, so the presence of ``method`` is looked at first; a message that the
server does not understand gets no reply at all, so a call needs a limit of its own; parameters go by name only.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jsonrpcclient

from aioxo.errors import ConfigurationError, ProtocolError, XOError, api_error_from_rpc, excerpt
from aioxo.models import Notification

from .json import JSONDecodeError, dumps, loads

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Dialogue", "Reply"]

#: Abandoned calls whose reply is still known when it comes; for those before, it is a message that answers nothing.
ABANDONED_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the call `id`: `error` when the server refused, else `result`."""

    id: int
    result: Any = None
    error: XOError | None = None


class Dialogue:
    """The calls outstanding on one connection; a new connection starts a new one."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._outstanding: dict[int, str] = {}
        self._abandoned: deque[int] = deque()

    def __repr__(self) -> str:
        return f"<Dialogue outstanding={len(self._outstanding)}>"

    def call(self, method: str, params: Mapping[str, Any]) -> tuple[int, bytes]:
        """Register a call; return its id and the message to send.

        Raises:
            ConfigurationError: a parameter is not something JSON can say; nothing was registered.
        """
        call_id = next(self._ids)
        try:
            message = dumps(jsonrpcclient.request(method, dict(params), id=call_id))
        except (TypeError, RecursionError) as error:
            text = f"{excerpt(str(method))}: the parameters cannot be said in JSON: {error}"
            raise ConfigurationError(text) from error
        self._outstanding[call_id] = method
        return call_id, message

    def abandon(self, call_id: int) -> None:
        """Note that nobody waits for this reply any more; it stays known for a while, so that it is no surprise."""
        if call_id not in self._outstanding:
            return
        self._abandoned.append(call_id)
        if len(self._abandoned) > ABANDONED_LIMIT:
            self._outstanding.pop(self._abandoned.popleft(), None)

    def receive(self, data: bytes | str) -> Reply | Notification | ProtocolError:
        """Tell what one message is; never raises."""
        try:
            message = loads(data)
        except JSONDecodeError as error:
            return ProtocolError(f"a websocket message is not JSON ({error.msg}): {excerpt(data)}")
        if type(message) is not dict:
            return ProtocolError(f"a websocket message is not a JSON object: {excerpt(data)}")
        if (method := message.get("method")) is not None:
            if isinstance(method, str) and "id" not in message:
                return Notification(method, message.get("params"))
            return ProtocolError(f"a websocket message is a request, which the server never sends: {excerpt(data)}")
        return self._reply(message, data)

    def _reply(self, message: dict[str, Any], data: bytes | str) -> Reply | ProtocolError:
        call_id = message.get("id")
        method = self._outstanding.pop(call_id, None) if type(call_id) is int else None
        if method is None:
            return ProtocolError(f"a websocket message answers no call of ours: {excerpt(data)}")
        assert type(call_id) is int
        if "result" not in message and "error" not in message:
            return Reply(call_id)  # some uploads are confirmed without a result member
        try:
            parsed = jsonrpcclient.parse(message)
        except (KeyError, TypeError):
            return Reply(call_id, error=ProtocolError(f"{method}: the reply is malformed: {excerpt(data)}"))
        if isinstance(parsed, jsonrpcclient.Ok):
            return Reply(call_id, result=parsed.result)
        assert isinstance(parsed, jsonrpcclient.Error)
        return Reply(call_id, error=api_error_from_rpc(parsed.code, parsed.message, parsed.data, method=method))
