"""Entering a client: passwords that become tokens, and what is left of them afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.models import Timeouts

from .peers import TOKEN, FakeServer, WebSocketPeer, json_answer, server
from .test_rpc import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.mark.parametrize("knows_description", [True, False])
async def test_a_password_is_swapped_for_a_token(peer: FakeServer, knows_description: bool) -> None:
    async def create(socket: WebSocketPeer, call: dict[str, Any]) -> None:
        if "description" in call["params"] and not knows_description:
            await socket.say(id=call["id"], error={"code": 10, "message": "invalid parameters"})
        else:
            await socket.say(id=call["id"], result=TOKEN)

    peer.methods["token.create"] = create
    peer.returns("token.deleteOwn", True)
    async with connected(peer, username="admin", password="pass:word", otp="123456", token=None) as xo:
        assert peer.sign_ins == [{"email": "admin", "password": "pass:word", "otp": "123456"}]
        assert peer.requests[-1].header("Cookie") == f"authenticationToken={TOKEN}"
        assert peer.requests[-1].header("Authorization") is None
        # The password is used once, and so is a one-time code: the next connection signs in by token.
        owner = xo.connection._owner
        assert owner is not None
        peer.sockets[0].line.reset()
        await asyncio.wait([owner])
        await xo.call("echo")
        assert peer.sign_ins[-1] == {"token": TOKEN}
    assert peer.calls[-1]["method"] == "token.deleteOwn"
    assert peer.calls[-1]["params"] == {"tokens": [TOKEN]}


async def test_a_wrong_password(peer: FakeServer) -> None:
    with pytest.raises(aioxo.AuthenticationError, match="check the token, or the user, password") as raised:
        async with aioxo.connect(peer.url, username="admin", password="wr0ng"):
            pytest.fail("signed in")
    assert "wr0ng" not in repr(raised.value)
    assert peer.calls == []


async def test_a_token_that_cannot_be_deleted_keeps_nobody_from_closing(peer: FakeServer) -> None:
    peer.returns("token.create", TOKEN)
    peer.ignores("token.deleteOwn")
    async with connected(peer, username="admin", password="pass:word", token=None, timeouts=Timeouts(close=0.05)) as xo:
        assert xo.url == peer.url
    assert peer.calls[-1]["method"] == "token.deleteOwn"


async def test_a_token_given_by_the_caller_is_not_deleted(peer: FakeServer) -> None:
    async with connected(peer) as xo:
        await xo.call("echo")
    assert [call["method"] for call in peer.calls] == ["echo"]


@pytest.mark.parametrize("answer", [None, 5, {"token": "x"}])
async def test_a_token_that_is_none(peer: FakeServer, answer: object) -> None:
    peer.returns("token.create", answer)
    with pytest.raises(aioxo.ProtocolError, match="not a token"):
        async with aioxo.connect(peer.url, username="admin", password="pass:word"):
            pytest.fail("signed in")


async def test_a_token_made_before_the_probe_failed_is_deleted(peer: FakeServer) -> None:
    peer.returns("token.create", TOKEN)
    peer.returns("token.deleteOwn", True)
    peer.routes["GET /rest/v0/pools"] = json_answer({"error": "no"}, 500)
    with pytest.raises(aioxo.ApiError):
        async with aioxo.connect(peer.url, username="admin", password="pass:word"):
            pytest.fail("signed in")
    assert peer.calls[-1]["params"] == {"tokens": [TOKEN]}


async def test_the_token_of_a_password_does_not_last_for_ever(peer: FakeServer) -> None:
    peer.returns("token.create", TOKEN)
    peer.returns("token.deleteOwn", True)
    async with connected(peer, username="admin", password="pass:word", token=None):
        assert peer.calls[0]["params"] == {"description": "aioxo", "expiresIn": "7 days"}


async def test_a_client_is_entered_once(peer: FakeServer) -> None:
    async with connected(peer) as xo:
        with pytest.raises(aioxo.ConfigurationError, match="entered once"):
            await xo.__aenter__()
        assert await xo.call("echo") == {}
    with pytest.raises(aioxo.ConfigurationError, match="entered once"):
        await xo.__aenter__()
