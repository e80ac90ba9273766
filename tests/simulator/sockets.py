"""A plain websocket client for tests: calls by hand, messages as they come."""

from __future__ import annotations

import itertools
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aioxo.simulator import Simulator


class Socket:
    """A connection; notifications that come while waiting for something else are kept in `notifications`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.notifications: list[dict[str, Any]] = []
        self._ids = itertools.count(1)

    async def send(self, text: str) -> None:
        await self.socket.send_str(text)

    async def receive(self) -> aiohttp.WSMessage:
        return await self.socket.receive(timeout=20)

    async def answer(self) -> Any:
        """The next message that is no notification: its text, its bytes, or the type of a closing."""
        while True:
            message = await self.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                data = json.loads(message.data)
                if "method" not in data:
                    return message.data
                self.notifications.append(data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                return message.data
            else:
                return message.type

    async def ask(self, method: str, /, **params: Any) -> dict[str, Any]:
        """Call and return the whole answer to it."""
        request_id = next(self._ids)
        await self.send(json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}))
        while True:
            text = await self.answer()
            assert isinstance(text, str), f"the connection ended: {text}"
            answer: dict[str, Any] = json.loads(text)
            if answer["id"] == request_id:
                return answer

    async def call(self, method: str, /, **params: Any) -> Any:
        """Call and return the result."""
        answer = await self.ask(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    async def refusal(self, method: str, /, **params: Any) -> dict[str, Any]:
        """Call and return the error."""
        answer = await self.ask(method, **params)
        error: dict[str, Any] = answer["error"]
        return error

    async def notification(self) -> dict[str, Any]:
        """The parameters of the next notification."""
        while not self.notifications:
            message = await self.receive()
            assert message.type is aiohttp.WSMsgType.TEXT, message
            data = json.loads(message.data)
            if "method" in data:
                self.notifications.append(data)
        params: dict[str, Any] = self.notifications.pop(0)["params"]
        return params


@asynccontextmanager
async def websocket(sim: Simulator, *, token: str | None = None, **options: Any) -> AsyncIterator[Socket]:
    """Open `/api/`, and sign in when there is a token."""
    options.setdefault("max_msg_size", 0)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{sim.url}/api/", **options) as connection,
    ):
        socket = Socket(connection)
        if token is not None:
            await socket.call("session.signIn", token=token)
        yield socket
