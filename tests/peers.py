"""Scripted peers on real sockets: servers that do exactly what a test says, misbehaving included.

`serve` runs a coroutine for each connection that comes in, with a `Line` to read requests from and to write whatever
bytes to. `FakeServer` is built on it: just enough of Xen Orchestra (sign-in, calls, a few routes) for tests that
misbehave in one place only and are well everywhere else.

Nothing here waits for time to pass: tests wait for what the peer saw, `Peer.wait_for`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

__all__ = [
    "TOKEN",
    "FakeServer",
    "Line",
    "Peer",
    "Request",
    "Script",
    "WebSocketPeer",
    "all_enter",
    "all_exit",
    "json_answer",
    "ndjson",
    "serve",
    "server",
    "unused_port",
]

#: The token that `FakeServer` takes.
TOKEN = "t0ken-that-nobody-may-see"
_WEBSOCKET_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Request:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def header(self, name: str) -> str | None:
        """Return the one value of a header, or None when it was not sent."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None


class Line:
    """One connection, seen from the server."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer

    async def request(self, *, body: bool = True) -> Request:
        """Read a request; raises EOFError when the client has hung up. The body is left unread on request."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
        request = Request(method, target, headers)
        self.peer.requests.append(request)
        self.peer.changed()
        if body:
            if length := request.header("Content-Length"):
                request.body = await self.reader.readexactly(int(length))
            elif request.header("Transfer-Encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    request.body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
        return request

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def respond(
        self,
        status: int = 200,
        body: bytes = b"",
        kind: str | None = "application/json",
        *,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send an answer with a Content-Length, which `length` makes a lie."""
        head = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
        if kind is not None:
            head["Content-Type"] = kind
        await self.send(self.head(status, head) + body)

    @staticmethod
    def head(status: int, headers: Mapping[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def start_chunked(self, kind: str | None = "application/octet-stream", status: int = 200) -> None:
        headers = {"Transfer-Encoding": "chunked"}
        if kind is not None:
            headers["Content-Type"] = kind
        await self.send(self.head(status, headers))

    async def chunk(self, data: bytes) -> None:
        """Send one chunk; an empty one ends the body."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def hung_up(self) -> None:
        """Wait until the client has closed its side, reading what still comes."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(2**16):
                pass

    def reset(self) -> None:
        """Cut the connection so that the client sees a reset instead of an orderly end."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def upgrade(self, request: Request) -> WebSocketPeer:
        """Answer a websocket handshake."""
        key = (request.header("Sec-WebSocket-Key") or "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_KEY).digest()).decode()
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
        await self.send(self.head(101, headers))
        return WebSocketPeer(self)


class WebSocketPeer:
    """The server's end of a websocket."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def receive(self) -> Any:
        """Return the next message, decoded; raises EOFError once the client has closed."""
        while True:
            opcode, payload = await self._frame()
            if opcode == 8:
                with contextlib.suppress(ConnectionError):
                    await self.send(payload, opcode=8)
                raise EOFError
            if opcode == 9:
                await self.send(payload, opcode=10)
            elif opcode in {1, 2}:
                return json.loads(payload)

    async def _frame(self) -> tuple[int, bytes]:
        read = self.line.reader.readexactly
        first, second = await read(2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await read(2), "big")
        elif size == 127:
            size = int.from_bytes(await read(8), "big")
        assert second & 0x80, "a client masks what it sends"
        assert first & 0x80, "the client does not fragment"
        mask = await read(4)
        payload = await read(size)
        return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

    async def send(self, data: bytes | str, *, opcode: int = 1) -> None:
        payload = data.encode() if isinstance(data, str) else data
        size = len(payload)
        if size < 126:
            length = bytes([size])
        elif size < 2**16:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
        await self.line.send(bytes([0x80 | opcode]) + length + payload)

    async def say(self, **message: Any) -> None:
        """Send a JSON-RPC message."""
        await self.send(json.dumps({"jsonrpc": "2.0", **message}))

    async def close(self, code: int | None = None) -> None:
        """Send a close frame; None sends an empty one, as xo-server does."""
        await self.send(b"" if code is None else code.to_bytes(2, "big"), opcode=8)

    async def closed(self) -> None:
        """Wait until the client has closed, answering nothing."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                await self.receive()


Script: TypeAlias = "Callable[[Line], Awaitable[None]]"


class Peer:
    """A listening socket and what has come in so far."""

    def __init__(self, script: Script, *, secure: bool = False) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.faults: list[Exception] = []
        self.port = 0
        self._script = script
        self._scheme = "https" if secure else "http"
        self._changed = asyncio.Condition()
        self._running: set[asyncio.Task[None]] = set()
        self._notifying: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def changed(self) -> None:
        """Wake whoever waits for something to have happened."""
        task = asyncio.ensure_future(self._notify())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, predicate: Callable[[], bool]) -> None:
        """Wait until something is so; it is looked at whenever something has happened."""
        async with self._changed:
            await self._changed.wait_for(predicate)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.connections += 1
        self.changed()
        try:
            await self._script(Line(self, reader, writer))
        except (EOFError, ConnectionError):
            pass  # the client has left, which is its good right
        except asyncio.CancelledError:
            pass  # the test is over
        except Exception as error:  # noqa: BLE001 - shown when the peer is closed, for a task of a server has no caller
            self.faults.append(error)
        finally:
            self._running.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()
            self.changed()

    async def close(self) -> None:
        tasks = self._running | self._notifying
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self.faults:
            raise self.faults[0]


@contextlib.asynccontextmanager
async def _listening(peer: Peer, tls: ssl.SSLContext | None, limit: int = 2**20) -> AsyncIterator[None]:
    listening = await asyncio.start_server(peer.connected, "127.0.0.1", 0, ssl=tls, limit=limit)
    peer.port = listening.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        listening.close()
        await peer.close()


@contextlib.asynccontextmanager
async def serve(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Run `script` for each connection until the block is left; what it raises is raised there."""
    peer = Peer(script, secure=tls is not None)
    async with _listening(peer, tls):
        yield peer


def unused_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ndjson(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def json_answer(value: Any, status: int = 200) -> Handler:
    """Return a route that gives this value."""

    async def answer(line: Line, request: Request) -> None:
        await line.respond(status, json.dumps(value).encode())

    return answer


def all_enter(**items: Any) -> str:
    """Return the notification of objects that were added or changed."""
    return json.dumps({"jsonrpc": "2.0", "method": "all", "params": {"type": "enter", "items": items}})


def all_exit(*ids: str) -> str:
    """Return the notification of objects that are gone."""
    items = dict.fromkeys(ids, 0)
    return json.dumps({"jsonrpc": "2.0", "method": "all", "params": {"type": "exit", "items": items}})


Handler: TypeAlias = "Callable[[Line, Request], Awaitable[None]]"
Method: TypeAlias = "Callable[[WebSocketPeer, dict[str, Any]], Awaitable[None]]"


class FakeServer(Peer):
    """Enough of Xen Orchestra for one test: routes by verb and path, methods by name, both replaceable.

    Attributes:
        routes: "GET /rest/v0/vms" to what answers; what is not there gets the server's 404.
        methods: name to what answers the call; see `returns`.
        sockets: websockets that are signed in now.
        calls: the calls received so far, the sign-ins left out.
        sign_ins: parameters of the sign-ins received so far.
    """

    def __init__(self, *, base: str = "", secure: bool = False) -> None:
        super().__init__(self._converse, secure=secure)
        self.base = base
        self.routes: dict[str, Handler] = {"GET /rest/v0/pools": json_answer([])}
        self.methods: dict[str, Method] = {"echo": self._echo}
        self.sign_in: Method = self._sign_in
        self.sockets: list[WebSocketPeer] = []
        self.calls: list[dict[str, Any]] = []
        self.sign_ins: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return super().url + self.base

    def returns(self, method: str, result: Any) -> None:
        """Let a method answer with `result`."""

        async def answer(socket_: WebSocketPeer, call: dict[str, Any]) -> None:
            await socket_.say(id=call["id"], result=result)

        self.methods[method] = answer

    def refuses(self, method: str, code: int | str, message: str, data: Any = None) -> None:
        """Let a method answer with an error."""

        async def answer(socket_: WebSocketPeer, call: dict[str, Any]) -> None:
            error = {"code": code, "message": message} | ({} if data is None else {"data": data})
            await socket_.say(id=call["id"], error=error)

        self.methods[method] = answer

    def ignores(self, method: str) -> None:
        """Let a method never answer."""

        async def answer(socket_: WebSocketPeer, call: dict[str, Any]) -> None:
            pass

        self.methods[method] = answer

    def streams(self, route: str, *records: Any) -> None:
        """Let a route answer with records, a line each."""

        async def answer(line: Line, request: Request) -> None:
            await line.respond(200, ndjson(*records), "application/x-ndjson")

        self.routes[route] = answer

    async def called(self, count: int = 1) -> None:
        """Wait until so many calls have come in."""
        await self.wait_for(lambda: len(self.calls) >= count)

    async def signed_in(self, count: int = 1) -> WebSocketPeer:
        """Wait until so many websockets are signed in at once; return the latest."""
        await self.wait_for(lambda: len(self.sockets) >= count)
        return self.sockets[-1]

    async def broadcast(self, message: str) -> None:
        for socket_ in self.sockets:
            await socket_.send(message)

    async def _converse(self, line: Line) -> None:
        while True:
            request = await line.request(body=False)
            if request.path == f"{self.base}/api/" and request.header("Upgrade"):
                await self._talk(await line.upgrade(request))
                return
            await self._answer(line, request)

    async def _answer(self, line: Line, request: Request) -> None:
        handler = self.routes.get(f"{request.method} {request.path.removeprefix(self.base)}")
        length = request.header("Content-Length")
        if length and not getattr(handler, "reads_body", False):
            request.body = await line.reader.readexactly(int(length))
        if handler is None:
            await line.respond(404, b"<!DOCTYPE html><title>Error</title>Cannot GET", "text/html; charset=utf-8")
        else:
            await handler(line, request)

    async def _talk(self, socket_: WebSocketPeer) -> None:
        try:
            while True:
                call = {"params": {}, **await socket_.receive()}
                if call["method"] == "session.signIn":
                    self.sign_ins.append(call["params"])
                    await self.sign_in(socket_, call)
                    self.changed()
                    continue
                self.calls.append(call)
                self.changed()
                method = self.methods.get(call["method"])
                if method is None:
                    error = {"code": -32601, "message": f"method not found: {call['method']}", "data": call["method"]}
                    await socket_.say(id=call["id"], error=error)
                else:
                    await method(socket_, call)
        finally:
            if socket_ in self.sockets:
                self.sockets.remove(socket_)
            self.changed()

    async def _sign_in(self, socket_: WebSocketPeer, call: dict[str, Any]) -> None:
        params = call["params"]
        if params.get("token") == TOKEN or params.get("password") == "pass:word":
            self.sockets.append(socket_)
            await socket_.say(id=call["id"], result={"id": "user", "email": "admin"})
        else:
            await socket_.say(id=call["id"], error={"code": 3, "message": "invalid credentials"})

    @staticmethod
    async def _echo(socket_: WebSocketPeer, call: dict[str, Any]) -> None:
        await socket_.say(id=call["id"], result=call["params"])


@contextlib.asynccontextmanager
async def server(*, base: str = "", tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeServer]:
    """Run a `FakeServer` until the block is left."""
    peer = FakeServer(base=base, secure=tls is not None)
    async with _listening(peer, tls):
        yield peer
