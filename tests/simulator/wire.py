"""A bare HTTP/1.1 client on asyncio streams, for tests that look at the very bytes of an answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aioxo.simulator import Simulator


@dataclass
class Answer:
    """An answer: `chunks` are the HTTP chunks of a chunked body, `body` all of it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    whole: bool = True

    def json(self) -> Any:
        return json.loads(self.body)


async def connect(sim: Simulator) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(sim.url)
    return await asyncio.open_connection(address.hostname, address.port, limit=2**26)


def head(method: str, target: str, headers: dict[str, str], *, version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: simulator", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_head(reader: asyncio.StreamReader) -> Answer:
    """Read a status line and headers; names are in lower case."""
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = text.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status.split()[1]), headers)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    """Read one chunk; `b""` is the last."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    """Read a whole answer; `whole` is false when the connection ended within it."""
    answer = await read_head(reader)
    try:
        if method == "HEAD" or answer.status in {204, 304}:
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while chunk := await read_chunk(reader):
                answer.chunks.append(chunk)
            answer.body = b"".join(answer.chunks)
        elif "content-length" in answer.headers:
            answer.body = await reader.readexactly(int(answer.headers["content-length"]))
        else:
            answer.body = await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError):
        answer.whole = False
        answer.body = b"".join(answer.chunks)
    return answer


async def ask(
    sim: Simulator,
    method: str,
    target: str,
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    chunked: bool = False,
    version: str = "1.1",
) -> Answer:
    """Send one request on a connection of its own and read the answer."""
    sent = {"Connection": "close"} | (headers or {})
    if token is not None:
        sent["Cookie"] = f"authenticationToken={token}"
    if chunked:
        sent["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif body or method in {"POST", "PUT", "PATCH"}:
        sent.setdefault("Content-Length", str(len(body)))
    reader, writer = await connect(sim)
    try:
        writer.write(head(method, target, sent, version=version) + body)
        return await read_answer(reader, method)
    finally:
        writer.close()


async def get(sim: Simulator, target: str, **headers: str) -> Answer:
    """GET a path below `/rest/v0` as the administrator."""
    return await ask(sim, "GET", f"/rest/v0{target}", token=sim.token, headers=headers)


async def send(sim: Simulator, method: str, target: str, body: Any = None) -> Answer:
    """Send a request with a JSON body (None: without one) to a path below `/rest/v0` as the administrator."""
    if body is None:
        return await ask(sim, method, f"/rest/v0{target}", token=sim.token)
    headers = {"Content-Type": "application/json"}
    return await ask(sim, method, f"/rest/v0{target}", token=sim.token, headers=headers, body=json.dumps(body).encode())


async def wait(sim: Simulator, task: str) -> dict[str, Any]:
    """The record of a task, once it has ended."""
    record: dict[str, Any] = (await get(sim, f"/tasks/{task}?wait=true")).json()
    return record
