"""The end of a connection: what becomes of calls and listeners, when it is made anew, and when no more."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo import ConnectionState
from aioxo.backoff import Backoff
from aioxo.models import Timeouts

from .peers import FakeServer, WebSocketPeer, server
from .test_rpc import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with connected(peer) as client:
        yield client


@pytest.mark.parametrize("ending", ["close", "reset", "end"])
async def test_calls_under_way_when_the_connection_ends(peer: FakeServer, xo: aioxo.Client, ending: str) -> None:
    async def die(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        if ending == "close":
            await socket.close()
            await socket.closed()
        elif ending == "reset":
            socket.line.reset()
        raise EOFError

    peer.ignores("slow")
    peer.methods["die"] = die
    waiting = [asyncio.ensure_future(xo.call("slow")) for _ in range(3)]
    await peer.called(3)
    with pytest.raises(aioxo.ConnectionLost) as raised:
        await xo.call("die")
    assert type(raised.value) is aioxo.ConnectionLost
    assert raised.value.sent is True
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, aioxo.ConnectionLost) and outcome.sent for outcome in outcomes)
    # Nobody listens: the next call makes a connection, and no task was busy before.
    assert xo.connection.state in {ConnectionState.CLOSED, ConnectionState.OPEN, ConnectionState.CONNECTING}
    assert await xo.call("echo", again=True) == {"again": True}
    assert xo.connection.connections == 2


async def test_a_call_on_a_connection_that_is_known_to_be_lost_was_not_sent(peer: FakeServer, xo: aioxo.Client) -> None:
    await xo.call("echo")
    link = await xo.connection._link()
    link.fail(aioxo.ConnectionLost("gone", sent=True))
    with pytest.raises(aioxo.ConnectionLost, match="gone") as raised:
        await link.call("echo", {}, None)
    assert raised.value.sent is False
    assert len(peer.calls) == 1


async def test_without_a_listener_no_connection_is_made_until_it_is_needed(peer: FakeServer, xo: aioxo.Client) -> None:
    await xo.call("echo")
    owner = xo.connection._owner
    assert owner is not None
    peer.sockets[0].line.reset()
    await asyncio.wait([owner])
    assert xo.connection.state is ConnectionState.CLOSED
    assert len(peer.sign_ins) == 1
    await xo.call("echo")
    assert len(peer.sign_ins) == 2


async def test_with_a_listener_it_is_made_anew(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.notifications() as raw:
        for count in range(1, 4):
            await peer.signed_in()
            await peer.broadcast(json.dumps({"method": "all", "params": count}))
            assert await raw.receive() == aioxo.Notification("all", count)
            peer.sockets[0].line.reset()
            assert await raw.receive() == aioxo.Gap("disconnected")
            await xo.connection.open()
            assert xo.connection.connections == count + 1
    assert len(peer.sign_ins) == 4


async def test_one_reconnect_however_many_wait(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.notifications() as raw:
        peer.sockets[0].line.reset()
        assert await raw.receive() == aioxo.Gap("disconnected")
        await asyncio.gather(*(xo.call("echo") for _ in range(50)))
    assert len(peer.sign_ins) == 2


async def test_the_first_connection_is_made_once_for_all_who_ask(peer: FakeServer, xo: aioxo.Client) -> None:
    assert await asyncio.gather(*(xo.call("echo", n=n) for n in range(50))) == [{"n": n} for n in range(50)]
    assert len(peer.sign_ins) == 1


async def test_delays_grow_until_a_connection_has_lived(
    peer: FakeServer, xo: aioxo.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    class Recording:
        def delay(self, attempt: int, jitter: Any) -> float:
            attempts.append(attempt)
            return 0.0

    xo.connection._backoff = Recording()  # type: ignore[assignment]
    async with xo.notifications() as raw:
        for healthy in (float("inf"), float("inf"), 0.0, float("inf")):
            monkeypatch.setattr("aioxo.rpc.HEALTHY", healthy)
            await xo.connection.open()
            await peer.signed_in()
            peer.sockets[-1].line.reset()
            assert await raw.receive() == aioxo.Gap("disconnected")
            await peer.wait_for(lambda: not peer.sockets)
        await xo.connection.open()
    assert attempts == [0, 1, 0, 1]


async def test_passing_errors_are_tried_again(peer: FakeServer, xo: aioxo.Client) -> None:
    refusals = 3

    async def busy(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            # Two tries within 2 s get this, and a server that starts gets busy.
            await socket.say(id=call["id"], error={"code": -32000, "message": "unknown error from the peer"})
        else:
            await peer._sign_in(socket, call)

    async with xo.notifications() as raw:
        peer.sign_in = busy
        peer.sockets[0].line.reset()
        assert await raw.receive() == aioxo.Gap("disconnected")
        assert await xo.call("echo", a=1) == {"a": 1}
        assert raw.pending == 0
    assert len(peer.sign_ins) == 5


async def test_fatal_errors_end_the_attempts_and_wake_everyone(peer: FakeServer, xo: aioxo.Client) -> None:
    async def refuse(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        await socket.say(id=call["id"], error={"code": 3, "message": "invalid credentials"})

    async with xo.notifications() as first, xo.notifications() as second, xo.changes("VM") as third:
        peer.sign_in = refuse
        receiving = [asyncio.ensure_future(_drain(subscriber)) for subscriber in (first, second, third)]
        peer.sockets[0].line.reset()
        for outcome in await asyncio.gather(*receiving, return_exceptions=True):
            assert isinstance(outcome, aioxo.AuthenticationError)
        with pytest.raises(aioxo.AuthenticationError):
            await xo.call("echo")
    assert xo.connection.state is ConnectionState.CLOSED
    # Not fatal for ever: with the server mended, whoever asks gets a connection.
    peer.sign_in = peer._sign_in
    assert await xo.call("echo") == {}


async def _drain(subscriber: Any) -> None:
    async for item in subscriber:
        assert item == aioxo.Gap("disconnected")


async def test_the_first_attempt_is_not_repeated(peer: FakeServer, xo: aioxo.Client) -> None:
    async def busy(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        await socket.say(id=call["id"], error={"code": -32000, "message": "unknown error from the peer"})

    peer.sign_in = busy
    outcomes = await asyncio.gather(*(xo.call("echo") for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {aioxo.ApiError}
    assert len(peer.sign_ins) == 1


async def test_no_reply_to_the_sign_in(peer: FakeServer) -> None:
    async def silence(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        pass

    peer.sign_in = silence
    async with connected(peer, timeouts=Timeouts(connect=0.1, close=1)) as xo:
        with pytest.raises((aioxo.Timeout, aioxo.CannotConnect), match=r"within 0\.1 s") as raised:
            await xo.call("echo")
        if isinstance(raised.value, aioxo.ConnectionLost):
            assert raised.value.sent is False


async def test_callers_wait_no_longer_than_the_connect_limit(peer: FakeServer) -> None:
    async with connected(peer, timeouts=Timeouts(connect=0.1, close=1)) as xo, xo.notifications() as raw:

        async def busy(socket: WebSocketPeer, call: dict[str, Any]) -> None:
            await socket.say(id=call["id"], error={"code": -32000, "message": "too early"})

        peer.sign_in = busy
        xo.connection._backoff = Backoff(first=0.01, limit=0.01)
        peer.sockets[0].line.reset()
        assert await raw.receive() == aioxo.Gap("disconnected")
        with pytest.raises(aioxo.CannotConnect, match=r"no connection within 0\.1 s; .*too early") as raised:
            await xo.call("echo")
        assert raised.value.sent is False


async def test_closing_wakes_everyone(peer: FakeServer) -> None:
    async with connected(peer) as xo:
        peer.ignores("slow")
        calling = asyncio.ensure_future(xo.call("slow"))
        async with xo.notifications() as raw:
            listening = asyncio.ensure_future(anext(raw, "over"))
            await peer.called()
            await xo.close()
            with pytest.raises(aioxo.ConnectionLost) as raised:
                await calling
            assert raised.value.sent is True
            assert await listening == "over"  # an orderly end is no gap
        with pytest.raises(aioxo.ConfigurationError, match="was closed"):
            await xo.call("echo")
        await xo.close()


async def test_closing_while_connecting(peer: FakeServer) -> None:
    async def silence(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        pass

    peer.sign_in = silence
    async with connected(peer) as xo:
        calling = asyncio.ensure_future(xo.call("echo"))
        await peer.wait_for(lambda: bool(peer.sign_ins))
        await xo.close()
        with pytest.raises(aioxo.ConnectionLost, match="closed") as raised:
            await calling
        assert raised.value.sent is False


async def test_closing_while_waiting_for_the_next_attempt(peer: FakeServer) -> None:
    async with connected(peer) as xo, xo.notifications() as raw:
        xo.connection._backoff = Backoff(first=1000, limit=1000)
        peer.sockets[0].line.reset()
        assert await raw.receive() == aioxo.Gap("disconnected")
        calling = asyncio.ensure_future(xo.call("echo"))
        await asyncio.sleep(0)
        assert xo.connection.state is ConnectionState.WAITING
        assert "waiting" in repr(xo)
        await xo.close()
        with pytest.raises(aioxo.ConnectionLost, match="closed"):
            await calling
