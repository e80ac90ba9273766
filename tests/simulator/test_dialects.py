"""The server of 2023: what it does otherwise, and what it does not have."""

from __future__ import annotations

import asyncio
import json

import pytest

from aioxo.simulator import Simulator
from aioxo.simulator.dialect import dialect_called

from .consistency import broken_links
from .picks import halted
from .wire import Answer, ask, get, send


async def upload(sim: Simulator, target: str, body: bytes) -> Answer:
    return await ask(sim, "POST", f"/rest/v0{target}", token=sim.token, body=body)


async def test_a_collection_comes_line_by_line(old_sim: Simulator) -> None:
    answer = await get(old_sim, "/vms?fields=id,CPUs.number&limit=2")
    vms = old_sim.store.of_type("VM")[:2]
    lines = [
        json.dumps(
            {"id": vm["id"], "CPUs": {"number": vm["CPUs"]["number"]}, "href": f"/rest/v0/vms/{vm['id']}"},
            separators=(",", ":"),
        )
        for vm in vms
    ]
    assert answer.body.decode() == f"[\n{lines[0]},\n{lines[1]}\n]\n"
    assert answer.headers["content-type"] == "application/json"
    assert (await get(old_sim, "/vms?limit=0")).json() == []
    assert (await get(old_sim, "/vms")).json() == [f"/rest/v0/vms/{key}" for key in old_sim.store.ids("VM")]


@pytest.mark.parametrize("flag", ["ndjson", "ndjson=", "ndjson=true", "ndjson=1", "ndjson=false"])
async def test_a_flag_counts_when_it_is_there(old_sim: Simulator, flag: str) -> None:
    answer = await get(old_sim, f"/vms?{flag}")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len(answer.chunks) == 24


async def test_actions_are_answered_in_text(old_sim: Simulator) -> None:
    vm = halted(old_sim)["id"]
    answer = await send(old_sim, "POST", f"/vms/{vm}/actions/start")
    assert answer.status == 202
    assert "location" not in answer.headers
    assert "content-type" not in answer.headers
    task = answer.body.decode()
    assert task.startswith("/rest/v0/tasks/0")
    record = (await get(old_sim, task.removeprefix("/rest/v0") + "?wait=result")).json()
    assert record["status"] == "success"
    snapshot = await send(old_sim, "POST", f"/vms/{vm}/actions/snapshot?sync")
    assert (snapshot.status, old_sim.store.current(snapshot.json())["type"]) == (200, "VM-snapshot")
    assert "location" not in snapshot.headers
    stopped = await send(old_sim, "POST", f"/vms/{vm}/actions/hard_shutdown?sync=true")
    assert (stopped.status, stopped.body) == (200, b"")


async def test_waiting_for_a_change_or_for_the_end(old_sim: Simulator) -> None:
    vm = halted(old_sim)["id"]
    release = old_sim.faults.hold("VM.start")
    task = (await send(old_sim, "POST", f"/vms/{vm}/actions/start")).body.decode().rpartition("/")[2]
    change = asyncio.create_task(get(old_sim, f"/tasks/{task}?wait"))
    end = asyncio.create_task(get(old_sim, f"/tasks/{task}?wait=result"))
    assert (await get(old_sim, f"/vms/{vm}/tasks")).json() == [f"/rest/v0/tasks/{task}"]
    while len(old_sim.tasks._waiters.get(task, ())) < 2:
        await get(old_sim, "/vms?limit=0")
    old_sim.tasks.abort(task)
    assert (await change).json()["status"] == "pending"
    assert not end.done()
    release.set()
    assert (await end).json()["status"] == "success"
    assert (await get(old_sim, f"/vms/{vm}/tasks")).json() == []
    assert (await get(old_sim, f"/tasks/{task}?wait")).json()["status"] == "success"


async def test_imports_and_deletions_are_answered_in_text(old_sim: Simulator) -> None:
    sr, pool = old_sim.store.of_type("pool")[0]["default_SR"], old_sim.store.of_type("pool")[0]["id"]
    answer = await upload(old_sim, f"/srs/{sr}/vdis?raw&name_label=x", bytes(1024))
    vdi = answer.body.decode()
    assert answer.status == 200
    assert old_sim.store.current(vdi)["size"] == 1024
    assert "location" not in answer.headers
    archive = (await get(old_sim, f"/vms/{halted(old_sim)['id']}.xva")).body
    imported = await upload(old_sim, f"/pools/{pool}/vms?sr={sr}", archive)
    assert (imported.status, old_sim.store.current(imported.body.decode())["type"]) == (200, "VM")
    for path in (f"/vdis/{vdi}", f"/vms/{imported.body.decode()}"):
        deleted = await send(old_sim, "DELETE", path)
        assert (deleted.status, deleted.body) == (200, b"OK")
    assert broken_links(old_sim.store.all()) == []


async def test_refusals(old_sim: Simulator) -> None:
    nobody = await ask(old_sim, "GET", "/rest/v0/vms")
    assert (nobody.status, nobody.body) == (401, b"Unauthorized")
    basic = {"Authorization": "Basic YWRtaW5AYWRtaW4ubmV0OmFkbWlu"}
    assert (await ask(old_sim, "GET", "/rest/v0/vms", headers=basic)).status == 401
    assert (await ask(old_sim, "GET", "/rest/v0/vms?limit=0", token=old_sim.token, headers=basic)).status == 200
    user = old_sim.accounts.add_user("plain", "plain")
    token = old_sim.accounts.create_token(user)[0].id
    assert (await ask(old_sim, "GET", "/rest/v0/vms", token=token)).body == b"Unauthorized"
    unknown = await get(old_sim, "/vms/nope")
    assert (unknown.status, unknown.body) == (404, b"Not Found")
    assert (await get(old_sim, "/vms?filter=(")).status == 500


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ping"), ("GET", "/users/me"), ("GET", "/events"), ("GET", "/docs/swagger.json"), ("GET", "/alarms"),
        ("POST", "/users/authentication_tokens"), ("GET", "/gui-routes"), ("POST", "/vdis"), ("GET", "/backup-jobs"),
    ],
)  # fmt: skip
async def test_what_there_is_not_yet(old_sim: Simulator, method: str, path: str) -> None:
    answer = await send(old_sim, method, path)
    assert answer.status == 404


async def test_collections_are_listed_and_alarms_are_messages(old_sim: Simulator) -> None:
    for path in ("", "/"):
        collections = (await get(old_sim, path)).json()
        assert "/rest/v0/vms" in collections
    for collection in collections:
        assert (await get(old_sim, f"{collection.removeprefix('/rest/v0')}?limit=1")).status == 200
    messages = (await get(old_sim, "/messages?fields=*")).json()
    assert [message["id"] for message in messages] == old_sim.store.ids("message")
    alarm = next(message for message in messages if message["name"] == "ALARM")
    assert alarm["body"].startswith("value: 0.")
    assert (await get(old_sim, f"/messages/{alarm['id']}")).json()["time"] == alarm["time"]


async def test_anything_can_be_renamed(old_sim: Simulator) -> None:
    host = old_sim.store.ids("host")[0]
    answer = await send(old_sim, "PATCH", f"/hosts/{host}", {"name_label": "new"})
    assert answer.status == 200
    assert old_sim.store.current(host)["name_label"] == "new"


async def test_links_can_be_called_url() -> None:
    async with Simulator(vms=2, dialect="2023", links="url") as sim:
        records = (await get(sim, "/vms?fields=id")).json()
        assert [list(record) for record in records] == [["id", "url"]] * 2
        assert records[0]["url"] == f"/rest/v0/vms/{records[0]['id']}"


def test_dialects_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="2019"):
        dialect_called("2019")
    with pytest.raises(ValueError, match="2023"):
        dialect_called("2026", "url")
    assert dialect_called("2026", "href").link == "href"
