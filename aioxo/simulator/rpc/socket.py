"""Websocket connections: who is signed in on each, what they are told, and what comes back to them.

A connection has a queue of encoded messages and a task that sends them, so a client that does not read holds up nobody
else; what it does not read stays in memory, as in a real server. A change is encoded once for all connections.

Calls run at the same time and answer in the order they end. They go on when their connection is gone. Where a real
server is silent, so is this one: bad frames get no answer, a batch gets an empty shell, and a call under an expired
token gets the connection closed with an empty close frame.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import WSMsgType, web

from aioxo.simulator.failures import MASKED, UNKNOWN, Failure
from aioxo.simulator.rpc import framing
from aioxo.simulator.rpc.directory import register_directory
from aioxo.simulator.rpc.machines import register_machines
from aioxo.simulator.rpc.session import register_session
from aioxo.simulator.rpc.table import Context, Encoded, Methods

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aioxo.simulator.accounts import User
    from aioxo.simulator.rest.images import Exporter
    from aioxo.simulator.state import State
    from aioxo.simulator.store import Flush

logger = logging.getLogger(__name__)
MAXIMUM_MESSAGE = 100 * 2**20


class Connection:
    """One open websocket.

    Attributes:
        user_id: of who is signed in; None for nobody.
        expiration: when the token of the last sign-in runs out, in ms; None after a password. Signing out keeps it.
    """

    def __init__(self, socket: web.WebSocketResponse, address: str) -> None:
        self.address = address
        self.user_id: str | None = None
        self.expiration: int | None = None
        self._socket = socket
        self._outgoing: asyncio.Queue[tuple[bytes, WSMsgType] | None] = asyncio.Queue()

    def send(self, message: bytes, kind: WSMsgType = WSMsgType.TEXT) -> None:
        """Queue a message."""
        self._outgoing.put_nowait((message, kind))

    def end(self) -> None:
        """Close without a code once what is queued has gone out."""
        self.send(b"", WSMsgType.CLOSE)
        self._outgoing.put_nowait(None)

    async def write(self) -> None:
        """Send what is queued until the connection ends."""
        while True:
            item = await self._outgoing.get()
            if item is None:
                return
            await self._socket.send_frame(*item)


class RpcDoor:
    """All websocket connections."""

    def __init__(self, state: State, exporter: Exporter, *, deflate: bool = False) -> None:
        self._state = state
        self._exporter = exporter
        self._deflate = deflate
        self._connections: set[Connection] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._methods = Methods()
        register_session(self._methods)
        register_directory(self._methods)
        register_machines(self._methods)
        state.accounts.on_user_deleted = self._end_user

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def connections(self) -> list[Connection]:
        """Return the open connections."""
        return list(self._connections)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Hold one connection from its upgrade to its end."""
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        socket = web.WebSocketResponse(
            protocols=[offered.split(",")[0].strip()] if offered else (),
            autoclose=False,
            compress=self._deflate,
            max_msg_size=MAXIMUM_MESSAGE,
            decode_text=False,
        )
        await socket.prepare(request)
        connection = Connection(socket, request.remote or "")
        self._connections.add(connection)
        writer = asyncio.create_task(connection.write())
        reader = asyncio.create_task(self._read(socket, connection))
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            if request.transport is not None:
                request.transport.close()
        return socket

    async def close(self) -> None:
        """Cancel the calls that are going on and wait until they have ended."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def one_shot(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], suffix: str = "") -> str:
        """Return a path whose first request, whatever its method, `handler` answers; `suffix` is encoded already."""
        path = f"/api/{secrets.token_urlsafe(32)}{suffix}"
        self._state.one_shots[path] = handler
        return path

    def on_flush(self, flush: Flush) -> None:
        """Tell everybody who is signed in what changed: what entered, then what left."""
        told = [connection for connection in self._connections if connection.user_id is not None]
        if not told:
            return
        messages = []
        if flush.entered:
            messages.append(_notification("enter", flush.entered))
        if flush.exited:
            messages.append(_notification("exit", dict.fromkeys(flush.exited, 0)))
        for connection in told:
            for message in messages:
                connection.send(message)

    async def _read(self, socket: web.WebSocketResponse, connection: Connection) -> None:
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.CLOSE:
                await self._echo_close(socket, message.data or 0)
                return
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                return
            if not self._receive(connection, message.data):
                return

    async def _echo_close(self, socket: web.WebSocketResponse, code: int) -> None:
        """Close with the client's code; a close frame that has none gets one that has none."""
        if code:
            await socket.close(code=code)
        else:
            await socket.send_frame(b"", WSMsgType.CLOSE)

    def _receive(self, connection: Connection, message: bytes) -> bool:
        """Act on one message; False when the connection is at its end."""
        if connection.expiration is not None and connection.expiration <= self._state.clock.milliseconds():
            connection.user_id = None
            connection.end()
            return True
        parsed = framing.parse(message)
        if isinstance(parsed, framing.Batch):
            self._spawn(self._answer_batch(connection, parsed))
        elif parsed is not None:
            if parsed.method == self._state.faults.ws_close_on_call:
                return False
            self._spawn(self._answer(connection, parsed))
        return True

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer_batch(self, connection: Connection, batch: framing.Batch) -> None:
        await asyncio.gather(*(self._call(connection, request) for request in batch.requests))
        connection.send(bytes(len(batch.requests)), WSMsgType.BINARY)

    async def _answer(self, connection: Connection, request: framing.Request) -> None:
        answer = await self._call(connection, request)
        if request.method != self._state.faults.ws_silent_on_call:
            connection.send(answer)

    async def _call(self, connection: Connection, request: framing.Request) -> bytes:
        user = self._user(connection)
        context = Context(self._state, self, connection, self._exporter, user, request.params)
        try:
            result = await self._methods.call(request.method, context)
            encoded = result.json if isinstance(result, Encoded) else orjson.dumps(result)
        except Failure as failure:
            administrator = user is not None and user.administrator
            return framing.error_message(request.id, failure.rpc_error(administrator=administrator, id_of=self._id_of))
        except Exception:  # a mistake in here must not leave the client waiting
            logger.exception("%s failed", request.method)
            return framing.error_message(request.id, {"code": UNKNOWN, "message": MASKED})
        return framing.result_message(request.id, encoded)

    def _id_of(self, reference: str) -> str:
        found = self._state.store.get(reference)
        return reference if found is None else str(found["id"])

    def _user(self, connection: Connection) -> User | None:
        return None if connection.user_id is None else self._state.accounts.users.get(connection.user_id)

    def _end_user(self, user_id: str) -> None:
        for connection in self._connections:
            if connection.user_id == user_id:
                connection.user_id = None
                connection.end()


def _notification(kind: str, items: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": "all", "params": {"type": kind, "items": items}})
