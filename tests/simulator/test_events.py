"""The event stream: subscriptions, events, pings, and the cut for who does not read."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from aioxo.simulator import Simulator
from aioxo.simulator.rest import events

from .picks import running
from .wire import ask, connect, get, head, read_chunk, read_head, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Feed:
    """An open stream; each event is one HTTP chunk."""

    def __init__(self, sim: Simulator, reader: asyncio.StreamReader) -> None:
        self.sim = sim
        self.reader = reader
        self.id = ""

    async def event(self) -> tuple[str, dict[str, Any]]:
        name, data, *rest = (await read_chunk(self.reader)).decode().split("\n")
        assert rest == ["", ""]
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    async def drain(self) -> None:
        """Read events until the stream is cut."""
        while True:
            await self.event()

    async def subscribe(self, collection: str, fields: Any = None) -> None:
        body = {"collection": collection} | ({} if fields is None else {"fields": fields})
        answer = await send(self.sim, "POST", f"/events/{self.id}/subscriptions", body)
        assert (answer.status, answer.json()) == (201, {"id": collection})


@asynccontextmanager
async def feed(sim: Simulator, token: str | None = None) -> AsyncIterator[Feed]:
    reader, writer = await connect(sim)
    headers = {"Cookie": f"token={token or sim.token}", "Accept-Encoding": "gzip"}
    writer.write(head("GET", "/rest/v0/events", headers))
    answer = await read_head(reader)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["connection"] == "keep-alive"
    assert "content-encoding" not in answer.headers
    stream = Feed(sim, reader)
    name, data = await stream.event()
    assert name == "init"
    assert list(data) == ["id"]
    stream.id = data["id"]
    yield stream
    writer.close()


async def test_what_is_subscribed_to_is_told(sim: Simulator) -> None:
    vm = running(sim)
    async with feed(sim) as stream:
        sim.store.update(vm["id"], name_label="untold")
        sim.store.flush()
        await stream.subscribe("VM")
        changed = sim.store.update(vm["id"], name_label="told")
        assert await stream.event() == ("update", {"$subscription": "VM"} | changed)
        made = (await send(sim, "POST", f"/vms/{vm['id']}/actions/clone?sync=true")).json()["id"]
        while (event := await stream.event())[0] == "update":
            pass
        assert (event[0], event[1]["id"]) == ("add", made)
        await send(sim, "DELETE", f"/vms/{made}")
        while (event := await stream.event())[0] == "update":
            pass
        assert (event[0], event[1]["id"]) == ("remove", made)


async def test_fields_are_picked_and_other_changes_suppressed(sim: Simulator) -> None:
    vm = running(sim)
    async with feed(sim) as stream:
        await stream.subscribe("VM", ["id", "name_description", "memory.size"])
        await stream.subscribe("VM", ["name_description"])
        sim.store.update(vm["id"], name_label="not picked")
        sim.store.flush()
        sim.store.update(vm["id"], name_description="picked")
        assert await stream.event() == ("update", {"$subscription": "VM", "name_description": "picked"})
        await stream.subscribe("VM", "*")
        sim.store.update(vm["id"])
        assert len((await stream.event())[1]) == len(sim.store.current(vm["id"])) + 1


async def test_tasks_are_told_as_updates_only(sim: Simulator) -> None:
    async with feed(sim) as stream:
        await stream.subscribe("task", ["id", "status"])
        task = (await send(sim, "POST", f"/hosts/{sim.store.ids('host')[0]}/actions/enable")).json()["taskId"]
        for status in ("pending", "success"):
            assert await stream.event() == ("update", {"$subscription": "task", "id": task, "status": status})
        await send(sim, "DELETE", f"/tasks/{task}")
        assert await stream.event() == ("remove", {"$subscription": "task", "id": task, "status": "success"})


async def test_alarms_are_told_as_alarms_and_messages_never_leave(sim: Simulator) -> None:
    alarm = (await get(sim, "/alarms?fields=*&limit=1")).json()[0]
    message = (await get(sim, "/messages?fields=*&limit=1")).json()[0]
    async with feed(sim) as stream:
        await stream.subscribe("alarm", "*")
        await stream.subscribe("message", "*")
        sim.store.remove(message["id"])
        sim.store.remove(alarm["id"])
        name, data = await stream.event()
        assert (name, data["$subscription"], data["body"], data["time"]) == (
            "remove",
            "alarm",
            alarm["body"],
            alarm["time"],
        )


async def test_unsubscribing(sim: Simulator) -> None:
    async with feed(sim) as stream:
        await stream.subscribe("VM")
        await stream.subscribe("host", ["name_label"])
        path = f"/events/{stream.id}/subscriptions"
        for _ in range(2):
            assert (await send(sim, "DELETE", f"{path}/VM")).status == 204
        answer = await send(sim, "DELETE", f"{path}/nope")
        assert answer.json()["error"]["subscriptionId"]["value"] == "nope"
        sim.store.update(running(sim)["id"], name_label="untold")
        sim.store.update(sim.store.ids("host")[0], name_label="told")
        assert await stream.event() == ("update", {"$subscription": "host", "name_label": "told"})


async def test_subscriptions_that_cannot_be(sim: Simulator) -> None:
    async with feed(sim) as stream:
        path = f"/events/{stream.id}/subscriptions"
        for body, field in (
            ({"collection": "nope"}, "body.collection"),
            ({}, "body.collection"),
            ({"collection": "VM", "fields": "id"}, "body.fields"),
            ({"collection": "vms"}, "body.collection"),
        ):
            answer = await send(sim, "POST", path, body)
            assert answer.status == 422
            assert list(answer.json()["error"]) == [field]
    answer = await send(sim, "POST", path, {"collection": "VM"})
    while answer.status == 201:  # the server may not yet have seen the other end go
        answer = await send(sim, "POST", path, {"collection": "VM"})
    assert answer.json()["error"] == f"no such event {stream.id}"


async def test_who_may_see_nothing_is_told_nothing(sim: Simulator) -> None:
    user = sim.accounts.add_user("plain", "plain")
    token = sim.accounts.create_token(user)[0].id
    async with feed(sim, token) as stream, feed(sim) as other:
        for each in (stream, other):
            await each.subscribe("VM", ["id"])
        sim.store.remove(next(iter(sim.store.ids("VM"))))
        await other.event()
        waiting = asyncio.create_task(stream.event())
        await ask(sim, "GET", "/rest/v0/ping")
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_pings_come_by_themselves() -> None:
    async with Simulator(vms=2, ping_interval=0.02) as sim, feed(sim) as stream:
        for _ in range(2):
            name, data = await stream.event()
            assert name == "ping"
            assert abs(data["ping"] / 1000 - sim.clock.time()) < 60


async def test_who_does_not_read_is_cut_off(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAXIMUM_QUEUED", 2**20)
    vm = running(sim)["id"]
    async with feed(sim) as stream, feed(sim) as other:
        await stream.subscribe("VM")
        await other.subscribe("VM", ["power_state"])
        transport = stream.reader._transport  # type: ignore[attr-defined]
        transport.pause_reading()
        while stream.id in sim._events._streams:
            sim.store.update(vm, name_description="x" * 2**18 + str(len(sim.requests)))
            sim.store.flush()
            await ask(sim, "GET", "/rest/v0/ping")
        transport.resume_reading()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await stream.drain()
        sim.store.update(vm, power_state="Paused")
        assert await other.event() == ("update", {"$subscription": "VM", "power_state": "Paused"})
