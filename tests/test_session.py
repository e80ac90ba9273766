"""The session: what goes over the wire byte for byte, and what becomes of everything that can go wrong there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.auth import TLS, parse_url
from aioxo.models import Timeouts
from aioxo.session import Session

from .cancellation import cancelled_at_every_await
from .peers import Line, serve, unused_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUICK = Timeouts(connect=0.1, read=0.1, close=0.5)


@contextlib.asynccontextmanager
async def opened(url: str, tls: TLS = TLS(), timeouts: Timeouts = Timeouts()) -> AsyncIterator[Session]:  # noqa: B008
    session = Session(parse_url(url)[0], tls, timeouts, connections=10)
    await session.open()
    try:
        yield session
    finally:
        await session.close()


async def fetch(session: Session, path: str = "/x", **options: Any) -> bytes:
    async with session.exchange("GET", path, **options) as response:
        return await response.body()


async def hello(line: Line) -> None:
    while True:
        await line.request()
        await line.respond(200, b"hello", "text/plain")


async def upgrade(line: Line) -> None:
    socket = await line.upgrade(await line.request())
    await socket.closed()


# What is sent.


async def test_a_request_is_sent_as_it_was_written() -> None:
    async with serve(hello) as peer, opened(peer.url) as session:
        path = "/api/a%2Fb%20c%C3%A9/2026 - x%3F.xva".replace(" ", "%20")
        assert await fetch(session, path) == b"hello"
        assert await fetch(session, "/x", query="filter=a%3Ab%2B&fields=x%2Cy") == b"hello"
        assert [request.target for request in peer.requests] == [path, "/x?filter=a%3Ab%2B&fields=x%2Cy"]
        assert peer.requests[0].header("Accept-Encoding") == "identity"
        assert (peer.requests[0].header("User-Agent") or "").startswith("aioxo/")
        assert peer.requests[0].header("Authorization") is None
        assert peer.requests[0].header("Cookie") is None


async def test_a_base_path_goes_in_front() -> None:
    async def script(line: Line) -> None:
        request = await line.request()
        if request.header("Upgrade"):
            await (await line.upgrade(request)).closed()
        else:
            await line.respond(200, b"")

    async with serve(script) as peer, opened(peer.url + "/tools/xo/") as session:
        await fetch(session, "/rest/v0/vms")
        await (await session.websocket()).close()
        assert [request.target for request in peer.requests] == ["/tools/xo/rest/v0/vms", "/tools/xo/api/"]


async def test_cookies_are_not_kept() -> None:
    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.respond(200, b"", headers={"Set-Cookie": "token=other; Path=/"})

    async with serve(script) as peer, opened(peer.url) as session:
        await fetch(session)
        await fetch(session)
        assert peer.requests[1].header("Cookie") is None


# Connections.


async def test_a_connection_is_used_again_when_its_answer_was_read() -> None:
    async with serve(hello) as peer, opened(peer.url) as session:
        for _ in range(3):
            assert await fetch(session) == b"hello"
        assert peer.connections == 1


async def test_a_connection_is_dropped_when_its_answer_was_not_read() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.respond(200, b"half", length=1000)
        await line.hung_up()

    async with serve(script) as peer, opened(peer.url) as session:
        for count in (1, 2):
            async with session.exchange("GET", "/x") as response:
                assert await response.read() == b"half"
                assert response.received == 4
            assert peer.connections == count


async def test_idle_connections_that_the_server_closed_cost_no_request() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.respond(200, b"once")

    async with serve(script) as peer, opened(peer.url) as session:
        for count in range(1, 4):
            assert await fetch(session, repeatable=True) == b"once"
            await peer.wait_for(lambda: not peer._running)  # the server's end is closed
            assert peer.connections == count


async def test_idle_connections_are_dropped_before_the_server_does() -> None:
    async with opened("http://127.0.0.1") as session:
        connector = session._require_client().connector
        assert connector is not None
        kept: Any = connector._keepalive_timeout
        assert 0 < kept < 5  # what the server's header says


# Answers that go wrong.


async def test_a_reset_in_the_body() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.start_chunked()
        await line.chunk(b"12345")
        await may_reset.wait()
        line.reset()

    may_reset = asyncio.Event()
    async with serve(script) as peer, opened(peer.url) as session, session.exchange("GET", "/x") as response:
        assert await response.read() == b"12345"
        may_reset.set()
        with pytest.raises(aioxo.ConnectionLost, match="cut after 5 bytes") as raised:
            await response.read()
        assert raised.value.sent is True


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_ends_early(chunked: bool) -> None:
    async def script(line: Line) -> None:
        await line.request()
        if chunked:
            await line.start_chunked()
            await line.send(b"5\r\n123")
        else:
            await line.respond(200, b"123", length=5)

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(aioxo.ConnectionLost, match="cut after 3 bytes"):
            await fetch(session)


async def test_a_body_that_stalls() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.respond(200, b"123", length=5)
        await line.hung_up()

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(aioxo.Timeout, match=r"nothing came for 0\.05 s after 3 bytes") as raised:
            await fetch(session, read_timeout=0.05)
        assert (raised.value.limit, raised.value.seconds) == ("read", 0.05)


async def test_a_body_that_is_too_long_for_memory() -> None:
    async with serve(hello) as peer, opened(peer.url) as session, session.exchange("GET", "/x") as response:
        with pytest.raises(aioxo.ProtocolError, match="longer than 3 bytes"):
            await response.body(limit=3)


async def test_no_answer() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.hung_up()

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(aioxo.Timeout, match=r"no answer within 0\.05 s") as raised:
            await fetch(session, answer_timeout=0.05)
        assert raised.value.limit == "read"


@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_that_ends_without_an_answer(reset: bool) -> None:
    async def script(line: Line) -> None:
        await line.request()
        if reset:
            line.reset()

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(aioxo.ConnectionLost, match="lost before an answer came") as raised:
            await fetch(session)
        assert type(raised.value) is aioxo.ConnectionLost
        assert raised.value.sent is True


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\xff" * 40, b"HTTP/9.9 what\r\n\r\n", b"220 smtp\r\n"]
)
@pytest.mark.parametrize("operation", ["exchange", "websocket"])
async def test_a_server_that_does_not_speak_http(garbage: bytes, operation: str) -> None:
    async def script(line: Line) -> None:
        await line.send(garbage)
        await line.hung_up()

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(aioxo.NotXenOrchestra, match="does not speak HTTP"):
            await (fetch(session) if operation == "exchange" else session.websocket())


async def test_nobody_listens() -> None:
    port = unused_port()
    async with opened(f"http://127.0.0.1:{port}") as session:
        for attempt in (fetch, Session.websocket):
            with pytest.raises(aioxo.CannotConnect, match=f":{port}: cannot connect") as raised:
                await attempt(session)
            assert type(raised.value) is aioxo.CannotConnect
            assert raised.value.sent is False


async def test_no_such_host() -> None:
    # A name that no resolver may answer for: RFC 6761.
    async with opened("http://server.invalid") as session:
        with pytest.raises(aioxo.CannotConnect, match=r"server\.invalid: no such host"):
            await fetch(session)


async def test_a_connection_that_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened("http://127.0.0.1", timeouts=QUICK) as session:

        async def never(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
        monkeypatch.setattr("aiohappyeyeballs.start_connection", never)
        monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", never)
        with pytest.raises(aioxo.Timeout, match=r"no connection within 0\.1 s") as raised:
            await fetch(session)
        assert raised.value.limit == "connect"


async def test_a_session_that_is_not_open() -> None:
    session = Session(parse_url("http://127.0.0.1")[0], TLS(), Timeouts(), connections=1)
    with pytest.raises(aioxo.ConfigurationError, match="async with"):
        await fetch(session)
    await session.close()
    assert "closed" in repr(session)


async def test_no_error_shows_the_query_or_a_header() -> None:
    async def script(line: Line) -> None:
        await line.send(b"SSH-2.0-OpenSSH_9.6\r\n")
        await line.hung_up()

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(aioxo.NotXenOrchestra) as raised:
            await fetch(session, query="secret-query", headers={"Cookie": "authenticationToken=secret-token"})
        error: BaseException | None = raised.value
        while error is not None:
            assert "secret" not in f"{error} {error!r} {error.args!r} {vars(error)!r}"
            error = error.__cause__ or error.__context__


# The websocket.


async def test_messages_of_any_size() -> None:
    large = b'"' + b"x" * 5_000_000 + b'"'

    async def script(line: Line) -> None:
        socket = await line.upgrade(await line.request())
        await socket.send(large)
        await socket.send(b"\x00\x00", opcode=2)
        assert await socket.receive() == {"a": 1}
        await socket.closed()

    async with serve(script) as peer, opened(peer.url) as session:
        socket = await session.websocket()
        assert await socket.receive() == large
        assert await socket.receive() == b"\x00\x00"
        await socket.send(b'{"a": 1}')
        await socket.close()


@pytest.mark.parametrize(
    ("ending", "match"),
    [
        ("empty", "without a reason; has the token expired"),
        ("code", "closed it with code 1011"),
        ("reset", "was cut"),
        ("end", "was cut"),
        ("garbage", "broke the websocket protocol"),
    ],
)
async def test_how_a_websocket_ended_is_told(ending: str, match: str) -> None:
    async def script(line: Line) -> None:
        socket = await line.upgrade(await line.request())
        if ending in {"empty", "code"}:
            await socket.close(1011 if ending == "code" else None)
            await socket.closed()
        elif ending == "reset":
            line.reset()
        elif ending == "garbage":
            await line.send(b"\xff\xff\xff\xff")
            await socket.closed()

    async with serve(script) as peer, opened(peer.url) as session:
        socket = await session.websocket()
        with pytest.raises(aioxo.ConnectionLost, match=match) as raised:
            await socket.receive()
        assert raised.value.sent is True
        with pytest.raises(aioxo.ConnectionLost):
            await socket.send(b"too late")
        await socket.close()


async def test_a_message_beyond_the_limit_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(line: Line) -> None:
        socket = await line.upgrade(await line.request())
        await socket.send(b"x" * 2000)
        await socket.closed()

    monkeypatch.setattr("aioxo.session.MESSAGE_LIMIT", 1000)
    async with serve(script) as peer, opened(peer.url) as session:
        socket = await session.websocket()
        with pytest.raises(aioxo.ConnectionLost, match="broke the websocket protocol"):
            await socket.receive()
        await socket.close()


async def test_a_peer_that_does_not_answer_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(line: Line) -> None:
        await line.upgrade(await line.request())
        await line.hung_up()

    monkeypatch.setattr("aioxo.session.PING_INTERVAL", 0.05)
    async with serve(script) as peer, opened(peer.url, timeouts=QUICK) as session:
        socket = await session.websocket()
        with pytest.raises(aioxo.ConnectionLost, match=r"no answer to a ping within 0\.025 s"):
            await socket.receive()
        await socket.close()


async def test_closing_is_bounded_when_the_peer_says_nothing() -> None:
    async def script(line: Line) -> None:
        await line.upgrade(await line.request())
        await line.hung_up()

    async with serve(script) as peer, opened(peer.url, timeouts=QUICK) as session:
        socket = await session.websocket()
        async with asyncio.timeout(10):
            await socket.close()


async def test_an_upgrade_without_an_answer() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.hung_up()

    async with serve(script) as peer, opened(peer.url, timeouts=QUICK) as session:
        with pytest.raises(aioxo.Timeout, match=r"/api/: no answer within 0\.1 s"):
            await session.websocket()


@pytest.mark.parametrize(
    ("status", "kind", "match"),
    [
        (200, aioxo.NotXenOrchestra, "no websocket .status 200."),
        (401, aioxo.NotXenOrchestra, "no websocket .status 401."),
        (404, aioxo.NotXenOrchestra, "no websocket .status 404."),
        (502, aioxo.CannotConnect, "answers with status 502"),
    ],
)
async def test_an_upgrade_that_is_refused(status: int, kind: type[aioxo.XOError], match: str) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.respond(status, b"<html>", "text/html")

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(kind, match=match):
            await session.websocket()


@pytest.mark.parametrize("same_host", [True, False])
async def test_an_upgrade_follows_no_redirect(same_host: bool) -> None:
    async with serve(upgrade) as elsewhere:

        async def script(line: Line) -> None:
            await line.request()
            await line.respond(302, b"", headers={"Location": "/api/" if same_host else elsewhere.url + "/api/"})

        async with serve(script) as peer, opened(peer.url) as session:
            with pytest.raises(aioxo.NotXenOrchestra, match="redirect"):
                await session.websocket()
            assert len(peer.requests) == 1
            assert elsewhere.connections == 0


# Cancelling.


async def test_exchange_cancelled_at_every_await() -> None:
    async with serve(hello) as peer, opened(peer.url) as session:

        async def operation() -> None:
            assert await fetch(session) == b"hello"

        outcomes = [outcome async for outcome in cancelled_at_every_await(operation, operation)]
        assert asyncio.CancelledError in map(type, outcomes)
        assert peer.faults == []


async def test_websocket_cancelled_at_every_await() -> None:
    async def script(line: Line) -> None:
        socket = await line.upgrade(await line.request())
        await socket.say(hello=1)
        await socket.closed()

    async with serve(script) as peer, opened(peer.url) as session:

        async def operation() -> None:
            socket = await session.websocket()
            try:
                assert await socket.receive() == b'{"jsonrpc": "2.0", "hello": 1}'
            finally:
                await socket.close()

        outcomes = [outcome async for outcome in cancelled_at_every_await(operation, operation)]
        assert asyncio.CancelledError in map(type, outcomes)
        assert peer.faults == []
