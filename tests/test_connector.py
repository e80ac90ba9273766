"""What becomes of a request on the way to its answer: sent once, on a connection that counts as one."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import aioxo
from aioxo.auth import TLS, parse_url
from aioxo.connector import Connector, LimitedResolver, make_socket
from aioxo.models import Timeouts
from aioxo.session import Session

from .peers import TOKEN, FakeServer, Line, Request, json_answer, serve, server, unused_port
from .test_session import fetch, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN) as client:
        yield client


# Sent once.


@pytest.mark.parametrize("reset", [True, False])
async def test_a_machine_that_was_deleted_is_not_reported_missing(
    peer: FakeServer, xo: aioxo.Client, reset: bool
) -> None:
    async def deleted(line: Line, request: Request) -> None:
        peer.routes["DELETE /rest/v0/vms/a"] = json_answer({"error": "no such VM a"}, 404)
        if reset:
            line.reset()
        raise EOFError  # carried out, and then the answer is lost

    peer.routes["DELETE /rest/v0/vms/a"] = deleted
    before = xo.requests
    with pytest.raises(aioxo.ConnectionLost) as raised:
        await xo.vms.delete("a")
    assert raised.value.sent is True
    assert xo.requests - before == 1
    assert [request.method for request in peer.requests].count("DELETE") == 1


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_new_connection_that_is_cut_is_never_tried_again(repeatable: bool) -> None:
    async def script(line: Line) -> None:
        await line.request()

    async with serve(script) as peer, opened(peer.url) as session:
        with pytest.raises(aioxo.ConnectionLost):
            await fetch(session, repeatable=repeatable)
        assert len(peer.requests) == 1


@pytest.mark.parametrize(("repeatable", "requests"), [(True, 3), (False, 2)])
async def test_a_read_on_an_idle_connection_that_ends_is_repeated(repeatable: bool, requests: int) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.respond(200, b"first")
        await line.request()  # and no answer

    async with serve(script) as peer, opened(peer.url) as session:
        assert await fetch(session) == b"first"
        if repeatable:
            assert await fetch(session, repeatable=True) == b"first"
        else:
            with pytest.raises(aioxo.ConnectionLost):
                await fetch(session)
        assert len(peer.requests) == requests


async def test_an_upload_whose_connection_is_cut_is_sent_once(peer: FakeServer, xo: aioxo.Client) -> None:
    async def cut(line: Line, request: Request) -> None:
        await line.reader.read(100)
        line.reset()
        raise EOFError

    cut.reads_body = True  # type: ignore[attr-defined]
    peer.routes["PUT /rest/v0/vdis/A.raw"] = cut
    with pytest.raises(aioxo.ConnectionLost) as raised:
        await xo.vdis.import_content("A", bytes(4_000_000), format="raw")
    assert raised.value.sent is True
    assert [request.method for request in peer.requests].count("PUT") == 1


@pytest.mark.parametrize("ending", ["cut", "silence"])
async def test_a_one_shot_url_is_used_once_and_shown_nowhere(peer: FakeServer, ending: str) -> None:
    async def answer(line: Line, request: Request) -> None:
        if ending == "silence":
            await line.hung_up()
        raise EOFError

    peer.returns("xo.getAllObjects", {"$getFrom": "/api/S3CRET"})
    peer.routes["GET /api/S3CRET"] = answer
    async with aioxo.connect(peer.url, token=TOKEN, timeouts=Timeouts(read=0.2)) as xo:
        with pytest.raises((aioxo.ConnectionLost, aioxo.Timeout), match="GET of the objects") as raised:
            await xo.objects()
        assert "S3CRET" not in f"{raised.value} {raised.value!r}"
        assert peer.requests[-1].path == "/api/S3CRET"
        assert [request.path for request in peer.requests].count("/api/S3CRET") == 1


async def test_what_aiohttp_refused_to_write_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(line: Line) -> None:
        await line.hung_up()

    connect = aiohttp.TCPConnector.connect

    async def closing(*arguments: Any) -> Any:
        connection = await connect(*arguments)
        assert connection.transport is not None
        connection.transport.close()
        return connection

    async with serve(script) as peer, opened(peer.url) as session:
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", closing)
        with pytest.raises(aioxo.ConnectionLost) as raised:
            async with session.exchange("POST", "/x"):
                pytest.fail("answered")
        assert raised.value.sent is False
        assert peer.requests == []


# A peer that talks first, and is heard before anything was written: with uvloop it always is.


@pytest.mark.parametrize("operation", ["exchange", "websocket"])
async def test_a_peer_that_talks_first_is_not_xen_orchestra(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    async def script(line: Line) -> None:
        await line.send(b"220 smtp\r\n")
        await line.hung_up()

    connect = aiohttp.TCPConnector.connect

    async def heard(*arguments: Any) -> Any:
        connection = await connect(*arguments)
        assert connection.protocol is not None
        while not connection.protocol._tail:  # noqa: ASYNC110 - aiohttp tells nobody of it
            await asyncio.sleep(0)
        return connection

    async with serve(script) as peer, opened(peer.url) as session:
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", heard)
        with pytest.raises(aioxo.NotXenOrchestra, match="does not speak HTTP"):
            await (fetch(session) if operation == "exchange" else session.websocket())


# Limits.


async def test_looking_up_a_name_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    async with opened("http://xo.example", timeouts=Timeouts(connect=0.05, read=60)) as session:
        monkeypatch.setattr("aiohttp.resolver.DefaultResolver.resolve", never)
        assert isinstance(session._require_client().connector, Connector)
        for attempt in (fetch, Session.websocket):
            with pytest.raises(aioxo.Timeout, match=r"no (connection|answer) within 0\.05 s") as raised:
                await attempt(session)
            assert (raised.value.limit, raised.value.seconds) == ("connect", 0.05)
    with pytest.raises(TimeoutError):
        await LimitedResolver(0.01).resolve("xo.example")


async def test_waiting_for_a_connection_of_our_own_is_no_silence_of_the_server() -> None:
    async def script(line: Line) -> None:
        while True:
            request = await line.request()
            if request.path == "/long":
                await may_answer.wait()
            await line.respond(200, b"hello")

    may_answer = asyncio.Event()
    async with serve(script) as peer:
        session = Session(parse_url(peer.url)[0], TLS(), Timeouts(), connections=1)
        await session.open()
        try:
            long = asyncio.ensure_future(fetch(session, "/long"))
            await peer.wait_for(lambda: len(peer.requests) == 1)
            short = asyncio.ensure_future(fetch(session, answer_timeout=0.1))
            done, _ = await asyncio.wait([short], timeout=0.3)
            assert not done
            may_answer.set()
            assert (await long, await short) == (b"hello", b"hello")
        finally:
            await session.close()


def test_the_system_looks_after_silent_connections() -> None:
    with make_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", unused_port()))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("method", ["GE T", "", "GET\r\nX: y", "\ud800"])
async def test_a_verb_that_is_none(peer: FakeServer, xo: aioxo.Client, method: str) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="no HTTP verb"):
        await xo.request(method, "/vms")
