"""Streams of records as objects: entered once, left once; and what cannot be asked for at all."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.models import Timeouts

from .peers import TOKEN, FakeServer, Line, Request, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        running.streams("GET /rest/v0/vms", {"id": "a"}, {"id": "b"})
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN) as client:
        yield client


async def test_a_stream_is_entered_once(xo: aioxo.Client) -> None:
    stream = xo.vms.stream()
    async with stream:
        with pytest.raises(aioxo.ConfigurationError, match="entered once"):
            await stream.__aenter__()
        assert [vm["id"] async for vm in stream] == ["a", "b"]
    with pytest.raises(aioxo.ConfigurationError, match="entered once"):
        async with stream:
            pytest.fail("entered")


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_stream_that_was_left_gives_nothing_and_says_so(xo: aioxo.Client, taken: int) -> None:
    async with xo.vms.stream() as stream:
        for _ in range(taken):
            await anext(stream)
    with pytest.raises(aioxo.ConfigurationError, match="was left"):
        await anext(stream)
    assert stream.delivered == taken


async def test_a_stream_that_is_never_left_warns(xo: aioxo.Client) -> None:
    stream = xo.vms.stream()
    await stream.__aenter__()
    exchange = stream._exchange
    with pytest.warns(ResourceWarning, match="entered and never left"):  # noqa: PT031 - dropped, and then looked for
        del stream
        gc.collect()
    await exchange.__aexit__(None, None, None)


async def test_a_stream_that_was_refused_does_not_warn(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.MethodNotFound):
        async with xo.collection("nothing").stream():
            pytest.fail("entered")
    gc.collect()


@pytest.mark.parametrize("upload", [True, False])
async def test_a_refusal_that_stalls_is_told_by_its_status(peer: FakeServer, upload: bool) -> None:
    async def refuse(line: Line, request: Request) -> None:
        await line.respond(404, b'{"error": "no', length=1000)
        await line.hung_up()

    peer.routes["GET /rest/v0/vms/a"] = peer.routes["PUT /rest/v0/vdis/a.raw"] = refuse
    async with aioxo.connect(peer.url, token=TOKEN, timeouts=Timeouts(read=0.1)) as xo:
        with pytest.raises(aioxo.NotFound):
            async with asyncio.timeout(10):
                await (xo.vdis.import_content("a", bytes(10), format="raw") if upload else xo.vms.get("a"))


@pytest.mark.parametrize("id", ["a\ud800", "\udfff"])
async def test_an_id_with_half_a_character(peer: FakeServer, xo: aioxo.Client, id: str) -> None:
    before = len(peer.requests)
    with pytest.raises(aioxo.ConfigurationError, match="half a character"):
        await xo.vms.get(id)
    with pytest.raises(aioxo.ConfigurationError):
        await xo.request("GET", f"/vms/{id}")
    with pytest.raises(aioxo.ConfigurationError, match="half a character"):
        await xo.request("GET", "/vms", params={"filter": id})
    assert len(peer.requests) == before


@pytest.mark.parametrize("body", [object(), {"a": 2**70}, {"a": "\ud800"}, {"a": b"x"}], ids=repr)
async def test_a_body_that_json_cannot_say(peer: FakeServer, xo: aioxo.Client, body: Any) -> None:
    before = len(peer.requests)
    with pytest.raises(aioxo.ConfigurationError, match="POST /rest/v0/x: the body cannot be said in JSON"):
        await xo.request("POST", "/x", json=body)
    assert len(peer.requests) == before


def test_a_path_of_any_length_is_a_mistake_that_is_told() -> None:
    field: Any = aioxo.F
    for _ in range(3000):
        field = field["a"]
    with pytest.raises(aioxo.FilterSyntaxError, match="nested more than 100 levels"):
        field == "b"  # noqa: B015 - comparing builds it
