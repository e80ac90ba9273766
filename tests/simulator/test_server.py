"""The simulator as a whole: coming, going, dropping connections, faults, churn, TLS."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from aioxo.simulator import Simulator
from aioxo.simulator.accounts import parse_duration
from aioxo.simulator.failures import Failure, XapiFailure

from .consistency import broken_links
from .sockets import websocket
from .wire import ask, connect, get, head, read_answer, read_chunk, read_head, send

if TYPE_CHECKING:
    from aioxo.simulator import Flush


async def test_equal_seeds_give_equal_servers() -> None:
    async with Simulator(vms=6, seed=3) as one, Simulator(vms=6, seed=3) as other, Simulator(vms=6, seed=4) as third:
        assert one.url != other.url
        assert list(one.store.all()) == list(other.store.all()) != list(third.store.all())
        assert one.token == other.token != third.token


async def test_it_says_what_it_is() -> None:
    sim = Simulator(vms=1, token="my-own", username="me", password="you")
    with pytest.raises(RuntimeError, match="not running"):
        _ = sim.url
    assert "not running" in repr(sim)
    async with sim:
        assert sim.url in repr(sim)
        assert sim.url.startswith("http://127.0.0.1:")
        assert (await ask(sim, "GET", "/rest/v0/vms", token="my-own")).status == 200
        vm = sim.store.of_type("VM")[0]
        assert sim.vm(vm["name_label"]) == vm
        with pytest.raises(LookupError):
            sim.vm("nobody")
        sim.latency = (0, 0)
        assert sim.latency == (0, 0)


async def test_the_latency_is_that_of_an_action() -> None:
    async with Simulator(vms=4, latency=(0.05, 0.06)) as sim:
        vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Running")["id"]
        started = time.monotonic()
        await send(sim, "POST", f"/vms/{vm}/actions/pause?sync=true")
        assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize("options", [{"vms": -1}, {"churn": -1}, {"dialect": "x"}, {"links": "url"}, {"disk_size": 5}])
def test_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Simulator(**options)


async def test_it_runs_once() -> None:
    sim = Simulator(vms=1)
    async with sim:
        pass
    with pytest.raises(RuntimeError, match="runs once"):
        await sim.__aenter__()


async def test_an_address_in_use() -> None:
    async with Simulator(vms=1) as sim:
        with pytest.raises(OSError):
            async with Simulator(vms=1, port=int(sim.url.rpartition(":")[2])):
                pass


async def test_leaving_cuts_everything_at_once() -> None:
    async with Simulator(vms=8, disk_size=2**20, latency=(600, 600)) as sim, aiohttp.ClientSession() as session:
        vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Running")["id"]
        await send(sim, "POST", f"/vms/{vm}/actions/pause")
        waiting = asyncio.create_task(
            session.post(f"{sim.url}/rest/v0/vms/{vm}/actions/suspend?sync=true", headers=cookie(sim))
        )
        sim.faults.export_fault, sim.faults.export_fault_at = "stall", 10
        export = await session.get(f"{sim.url}/rest/v0/vms/{vm}.xva", headers=cookie(sim))
        events = await session.get(f"{sim.url}/rest/v0/events", headers=cookie(sim))
        socket = await session.ws_connect(f"{sim.url}/api/")
        reader, writer = await connect(sim)
        writer.write(head("GET", "/.well-known/x", {}))
        upload, uploader = await connect(sim)
        sr = sim.store.of_type("pool")[0]["default_SR"]
        path = f"/rest/v0/srs/{sr}/vdis?raw=true"
        uploader.write(head("POST", path, cookie(sim) | {"Content-Length": "100000"}) + bytes(10))
        while len(sim.tasks.all()) < 2:
            await get(sim, "/ping")
        started = time.monotonic()
        await sim.__aexit__(None, None, None)
        assert time.monotonic() - started < 2
        with pytest.raises(aiohttp.ClientError):
            await waiting
        for answer in (export, events):
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        assert (await socket.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        assert socket.close_code == 1006
        for each in (reader, upload):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await each.readexactly(1)
        writer.close()
        uploader.close()
        assert sim.disks == {}


def cookie(sim: Simulator) -> dict[str, str]:
    return {"Cookie": f"authenticationToken={sim.token}"}


async def test_dropping_connections_leaves_the_server_up(sim: Simulator) -> None:
    async with websocket(sim, token=sim.token) as socket:
        reader, writer = await connect(sim)
        writer.write(head("GET", "/rest/v0/events", cookie(sim)))
        await read_head(reader)
        await read_chunk(reader)
        await sim.drop_connections()
        assert await socket.answer() in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        assert socket.socket.close_code == 1006
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await read_chunk(reader)
        writer.close()
    assert (await get(sim, "/ping")).status == 200
    async with websocket(sim, token=sim.token) as socket:
        assert await socket.call("system.getVersion") == "0.1"


async def test_connections_are_kept_and_named_as_node_does(sim: Simulator) -> None:
    reader, writer = await connect(sim)
    for _ in range(2):
        writer.write(head("GET", "/rest/v0/ping", {}))
        answer = await read_answer(reader)
        assert answer.headers["connection"] == "keep-alive"
        assert answer.headers["keep-alive"] == "timeout=5"
        assert "server" not in answer.headers
    writer.close()
    assert (await ask(sim, "BREW", "/rest/v0/vms", token=sim.token)).status == 400
    assert (await ask(sim, "PURGE", "/rest/v0/vms", token=sim.token)).status == 404


async def test_tls() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with Simulator(vms=1, ssl_context=server) as sim, aiohttp.ClientSession() as session:
        assert sim.url.startswith("https://")
        async with session.get(f"{sim.url}/rest/v0/ping", ssl=client) as answer:
            assert answer.status == 200


async def test_churn_is_seen_and_stays_consistent() -> None:
    flushed = asyncio.Event()
    seen: list[Flush] = []

    def listener(flush: Flush) -> None:
        seen.append(flush)
        if sum(len(each.entered) for each in seen) > 30:
            flushed.set()

    async with Simulator(vms=16, churn=500, latency=(0, 0), flush_interval=0.01, disk_size=2**20) as sim:
        sim.store.subscribe(listener)
        vms = [vm["id"] for vm in sim.store.of_type("VM")][:4]
        for vm in vms:
            await send(sim, "POST", f"/vms/{vm}/actions/snapshot?sync=true")
        await flushed.wait()
        assert broken_links(sim.store.all()) == []
        assert set(sim.disks) == {*sim.store.ids("VDI"), *sim.store.ids("VDI-snapshot")}


async def test_a_churn_that_fails_is_logged_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with Simulator(vms=2, churn=100) as sim:
        for pool in sim.store.ids("VM"):
            sim.store.put({"id": pool, "type": "VM", "_xapiRef": pool})
        ticker = sim._ticker
        assert ticker is not None
        await asyncio.wait({ticker})
        assert (await get(sim, "/ping")).status == 200
    assert "nothing changes by itself any more" in caplog.text


async def test_a_slow_sign_in(sim: Simulator) -> None:
    sim.faults.slow_sign_in = 0.05
    started = time.monotonic()
    async with websocket(sim, token=sim.token):
        assert time.monotonic() - started >= 0.05


async def test_an_import_can_be_refused(sim: Simulator) -> None:
    sim.faults.fail("VM.import", "SR_FULL", "1")
    pool = sim.store.ids("pool")[0]
    answer = await ask(sim, "POST", f"/rest/v0/pools/{pool}/vms", token=sim.token, body=b"")
    assert answer.json()["error"] == "SR_FULL(1)"


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1 hour", 3_600_000),
        ("30 days", 2_592_000_000),
        ("1.5h", 5_400_000),
        ("100", 100),
        (5, 5),
        ("1w", 604_800_000),
    ],
)
def test_durations(text: str | float, milliseconds: float) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "soon", "1 fortnight", "h", "1 h 2"])
def test_texts_that_are_no_durations(text: str) -> None:
    with pytest.raises(Failure, match="not a valid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (XapiFailure("NO_HOSTS_AVAILABLE"), {"message": "no hosts available", "code": 7}),
        (
            XapiFailure("VDI_IN_USE", "ref", "destroy"),
            {"message": "VDI in use", "code": 17, "data": {"objectId": "ref", "operation": "destroy"}},
        ),
        (
            XapiFailure("OPERATION_BLOCKED", "ref", "why"),
            {"message": "operation blocked", "code": 19, "data": {"objectId": "ref", "code": "why"}},
        ),
        (XapiFailure("HOST_OFFLINE", "ref"), {"message": "host offline", "code": 18, "data": {"objectId": "ref"}}),
        (XapiFailure("EHOSTUNREACH"), {"message": "server unreachable", "code": 9, "data": {}}),
        (XapiFailure("SR_FULL", "1"), {"code": -32000, "message": "unknown error from the peer"}),
    ],
)
def test_pool_errors_that_have_a_code_of_their_own(failure: XapiFailure, error: dict[str, Any]) -> None:
    assert failure.rpc_error(administrator=False) == error
