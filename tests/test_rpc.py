"""The websocket: calls and their three ends, notifications, and being healed when it is cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.backoff import Backoff

from .cancellation import cancelled_at_every_await
from .peers import TOKEN, FakeServer, WebSocketPeer, all_enter, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AT_ONCE = Backoff(first=1e-6, limit=1e-6)


@contextlib.asynccontextmanager
async def connected(peer: FakeServer, **options: Any) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, **({"token": TOKEN} | options)) as xo:
        xo.connection._backoff = AT_ONCE
        yield xo


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with connected(peer) as client:
        yield client


# Calls.


async def test_the_websocket_is_opened_by_the_first_call(peer: FakeServer, xo: aioxo.Client) -> None:
    assert xo.connection.state == "closed"
    assert peer.sign_ins == []
    assert await xo.call("echo", id="a", name_label="é") == {"id": "a", "name_label": "é"}
    assert xo.connection.state == "open"
    assert peer.sign_ins == [{"token": TOKEN}]
    assert (xo.connection.connections, xo.connection.calls) == (1, 1)


async def test_replies_out_of_order(peer: FakeServer, xo: aioxo.Client) -> None:
    held: list[dict[str, Any]] = []

    async def hold(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        held.append(call)
        if len(held) == 3:
            for other in reversed(held):
                await socket.say(id=other["id"], result=other["params"]["n"])

    peer.methods["hold"] = hold
    assert await asyncio.gather(*(xo.call("hold", n=n) for n in range(3))) == [0, 1, 2]


async def test_notifications_before_the_reply_to_the_sign_in(peer: FakeServer, xo: aioxo.Client) -> None:
    async def sign_in(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        for name in "ab":
            await socket.send(all_enter(**{name: {"type": "VM", "id": name}}))
        await socket.send("{not JSON")
        await peer._sign_in(socket, call)

    peer.sign_in = sign_in
    assert await xo.call("echo") == {}
    assert xo.connection.notifications == 2
    assert xo.connection.malformed == 1


@pytest.mark.parametrize(
    ("code", "message", "data", "kind"),
    [
        (-32601, "method not found: vm.fly", "vm.fly", aioxo.MethodNotFound),
        (10, "invalid parameters", {"errors": [{"instancePath": "/id", "message": "must be string"}]},
         aioxo.InvalidParameters),
        (1, "no such VM a", {"id": "a", "type": "VM"}, aioxo.NotFound),
        (2, "not enough permissions", None, aioxo.Unauthorized),
        (-32000, "unknown error from the peer", None, aioxo.ApiError),
    ],
)  # fmt: skip
async def test_refused_calls(
    peer: FakeServer, xo: aioxo.Client, code: int, message: str, data: Any, kind: type[aioxo.ApiError]
) -> None:
    peer.refuses("vm.fly", code, message, data)
    with pytest.raises(kind, match=message) as raised:
        await xo.call("vm.fly", id=1)
    assert type(raised.value) is kind
    assert isinstance(raised.value, aioxo.ApiError)
    assert (raised.value.code, raised.value.data) == (code, data)
    assert "vm.fly" in str(raised.value)
    assert await xo.call("echo") == {}


async def test_a_call_that_json_cannot_say(peer: FakeServer, xo: aioxo.Client) -> None:
    for bad in (object(), 2**70, "\ud800"):
        with pytest.raises(aioxo.ConfigurationError, match="echo: the parameters cannot be said in JSON"):
            await xo.call("echo", bad=bad)
    assert await xo.call("echo") == {}


async def test_a_call_without_a_reply(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.ignores("slow")
    with pytest.raises(aioxo.Timeout, match=r"slow: no reply within 0\.05 s; the call may still") as raised:
        await xo.call("slow", call_timeout=0.05)
    assert (raised.value.limit, raised.value.seconds) == ("call", 0.05)


@pytest.mark.parametrize("leaving", ["cancel", "timeout"])
async def test_a_reply_that_comes_late_surprises_nobody(peer: FakeServer, xo: aioxo.Client, leaving: str) -> None:
    peer.ignores("slow")
    calling = asyncio.ensure_future(xo.call("slow", call_timeout=None if leaving == "cancel" else 0.02))
    await peer.called()
    if leaving == "cancel":
        calling.cancel()
    with pytest.raises((asyncio.CancelledError, aioxo.Timeout)):
        await calling
    assert (await xo.connection._link()).dialogue._abandoned
    await peer.sockets[0].say(id=peer.calls[0]["id"], result="late")
    assert await xo.call("echo", a=1) == {"a": 1}
    assert xo.connection.malformed == 0


MALFORMED = [
    b"{",
    b"",
    b"null",
    b"7",
    b"\xff\xfe\xfd",
    b'{"id": 424242, "result": 1}',
    b'{"id": "x", "result": 1}',
    b'{"id": null, "error": {"code": 1, "message": "x"}}',
    b'{"jsonrpc": "2.0"}',
    b'{"method": 5}',
    b'{"method": "all", "id": 1}',
    b'[{"id": 1, "result": 1}]',
    b"[" * 600 + rb'"\ud800"' + b"]" * 600,
]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda message: repr(message[:20]))
async def test_malformed_messages_are_counted_and_end_nothing(
    peer: FakeServer, xo: aioxo.Client, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        await socket.send(message)
        await socket.send(message, opcode=2)
        await socket.say(id=call["id"], result="right")

    peer.methods["odd"] = answer
    async with xo.notifications() as raw:
        with caplog.at_level(logging.DEBUG, "aioxo.rpc"):
            assert await xo.call("odd") == "right"
        assert xo.connection.malformed == 2
        assert await raw.receive() == aioxo.Gap("malformed")  # one or two: equal gaps in a row are one
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    assert xo.connection.connections == 1


async def test_binary_zeroes_are_what_a_batch_gets(peer: FakeServer, xo: aioxo.Client) -> None:
    async def answer(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        await socket.send(b"\x00\x00", opcode=2)
        await socket.say(id=call["id"], result=1)
        await socket.say(id=call["id"], result=2)

    peer.methods["batch"] = answer
    assert await xo.call("batch") == 1
    assert await xo.call("echo") == {}
    assert xo.connection.malformed == 2


async def test_a_lone_surrogate_costs_neither_call_nor_connection(peer: FakeServer, xo: aioxo.Client) -> None:
    async def answer(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        await socket.send(f'{{"id": {call["id"]}, "result": "a\\ud800b"}}')

    peer.methods["name"] = answer
    assert await xo.call("name") == "a\ufffdb"
    assert xo.connection.malformed == 0


async def test_the_methods_of_this_server(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.returns(
        "system.getMethodsInfo",
        {
            "vm.set": {"description": "changes", "params": {"id": {"type": "string"}}},
            "server.add": {"permission": "admin"},
            "session.signIn": {"permission": None, "params": None},
            "odd": None,
        },
    )
    methods = await xo.methods()
    assert methods["vm.set"] == aioxo.MethodInfo("vm.set", "changes", {"id": {"type": "string"}}, "user")
    assert [methods[name].permission for name in ("server.add", "session.signIn", "odd")] == ["admin", "none", "user"]
    peer.returns("system.getMethodsInfo", [])
    with pytest.raises(aioxo.ProtocolError, match="not an object"):
        await xo.methods()


# Slow and busy listeners.


async def test_a_subscriber_calls_inside_its_loop(peer: FakeServer, xo: aioxo.Client) -> None:
    async with xo.notifications() as raw:
        for number in range(5):
            await peer.broadcast(json.dumps({"method": "all", "params": number}))
        for number in range(5):
            assert await raw.receive() == aioxo.Notification("all", number)
            assert await xo.call("echo", n=number) == {"n": number}


async def test_a_stuck_subscriber_harms_nobody(peer: FakeServer, xo: aioxo.Client) -> None:
    async with (
        xo.notifications(buffer=2) as stuck,
        xo.notifications(buffer=2, overflow="fail") as failing,
        xo.notifications(buffer=100) as quick,
    ):
        for number in range(50):
            await peer.broadcast(json.dumps({"method": "all", "params": number}))
        assert [await quick.receive() for _ in range(50)] == [aioxo.Notification("all", n) for n in range(50)]
        assert await xo.call("echo", a=1) == {"a": 1}
        assert await stuck.receive() == aioxo.Gap("overflow", 48)
        assert (await stuck.receive(), await stuck.receive()) == (
            aioxo.Notification("all", 48),
            aioxo.Notification("all", 49),
        )
        with pytest.raises(aioxo.Lagged):
            await failing.receive()


async def test_notifications_have_nothing_to_merge_by(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="no key to merge by"):
        xo.notifications(overflow="latest")  # type: ignore[arg-type]


# Cancelling.


async def test_a_call_cancelled_at_every_await(peer: FakeServer, xo: aioxo.Client) -> None:
    async def operation() -> None:
        assert await xo.call("echo", a=1) == {"a": 1}

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, operation)]
    assert outcomes
    assert set(map(type, outcomes)) == {asyncio.CancelledError}
    assert xo.connection.connections == 1
    assert (await xo.connection._link())._waiting == {}


async def test_opening_cancelled_at_every_await(peer: FakeServer) -> None:
    async def operation() -> None:
        async with connected(peer) as xo:
            await xo.connection.open()

    async def check() -> None:
        await peer.wait_for(lambda: not peer.sockets)

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
    assert set(map(type, outcomes)) == {asyncio.CancelledError}


async def test_one_cancelled_caller_takes_the_connection_from_nobody(peer: FakeServer, xo: aioxo.Client) -> None:
    first, second = (asyncio.ensure_future(xo.call("echo", n=n)) for n in (1, 2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {"n": 2}
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_closing_cancelled_at_every_await(peer: FakeServer) -> None:
    async def operation() -> None:
        xo = aioxo.connect(peer.url, token=TOKEN)
        try:
            await xo.__aenter__()
            await xo.call("echo")
            await xo.close()
        finally:
            await xo.close()

    async def check() -> None:
        await peer.wait_for(lambda: not peer.sockets)

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
    assert set(map(type, outcomes)) <= {asyncio.CancelledError, type(None)}


async def test_a_mistake_of_ours_in_the_reader_wakes_everyone(
    peer: FakeServer, xo: aioxo.Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with xo.notifications() as notifications:
        mistake = LookupError("a mistake")

        def fail(_: aioxo.Notification) -> None:
            raise mistake

        monkeypatch.setattr(notifications, "notified", fail)
        await peer.broadcast(all_enter())
        assert await notifications.receive() == aioxo.Gap("disconnected")
        with pytest.raises(aioxo.ProtocolError, match="mistake in aioxo") as caught:
            await notifications.receive()
        assert caught.value.__cause__ is mistake
        assert xo.connection.state == "closed"
        assert "the reader failed" in caplog.text


async def test_closing_wakes_a_call_that_has_just_begun(peer: FakeServer) -> None:
    async with connected(peer) as xo:
        call = asyncio.create_task(xo.call("echo"))
        await asyncio.sleep(0)
        await xo.connection.close()
        with pytest.raises((aioxo.ConnectionLost, aioxo.ConfigurationError)):
            async with asyncio.timeout(5):
                await call


async def test_an_orderly_close_is_no_gap(xo: aioxo.Client) -> None:
    async with xo.notifications() as notifications:
        await xo.connection.close()
        assert [item async for item in notifications] == []


async def test_a_close_that_is_cancelled_leaves_nobody_waiting(
    peer: FakeServer, xo: aioxo.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.ignores("slow")
    async with xo.notifications() as raw:
        calling = asyncio.ensure_future(xo.call("slow"))
        await peer.called()
        closing = asyncio.ensure_future(xo.connection.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert [item async for item in raw] == []
        with pytest.raises(aioxo.ConnectionLost, match="closed"):
            await calling


async def test_a_listener_that_comes_after_the_close_is_told(xo: aioxo.Client) -> None:
    await xo.call("echo")
    notifications = xo.notifications()
    opening = asyncio.ensure_future(notifications.__aenter__())
    await xo.connection.close()
    with contextlib.suppress(aioxo.XOError):
        await opening
    xo.connection.listen(notifications)
    notifications._unopened = ""
    assert [item async for item in notifications] == []


@pytest.mark.parametrize("refusals", [3, 7])
async def test_a_good_token_that_is_refused_for_a_while(peer: FakeServer, xo: aioxo.Client, refusals: int) -> None:
    async def starting(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        if len(peer.sign_ins) <= 1 + refusals:
            await socket.say(id=call["id"], error={"code": 3, "message": "invalid credentials"})
        else:
            await peer._sign_in(socket, call)

    async with xo.notifications() as raw:
        peer.sign_in = starting
        peer.sockets[0].line.reset()
        assert await raw.receive() == aioxo.Gap("disconnected")
        await peer.signed_in()
        await peer.broadcast(json.dumps({"method": "all", "params": 1}))
        assert await raw.receive() == aioxo.Notification("all", 1)


async def test_a_mistake_of_ours_is_no_orderly_close(
    peer: FakeServer, xo: aioxo.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.ignores("slow")
    async with xo.notifications() as notifications:
        calling = asyncio.ensure_future(xo.call("slow"))
        await peer.called()

        def fail(_: aioxo.Notification) -> None:
            raise LookupError

        monkeypatch.setattr(notifications, "notified", fail)
        await peer.broadcast(all_enter())
        with pytest.raises(aioxo.ConnectionLost, match="mistake in aioxo"):
            await calling
