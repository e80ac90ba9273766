"""The REST door: what the recordings cannot show, such as sequences, and whole bodies."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from aioxo.simulator import Simulator
from aioxo.simulator.rest.listing import picker

from .consistency import broken_links
from .wire import ask, connect, get, head, read_chunk, read_head, send

if TYPE_CHECKING:
    import aiohttp


def halted(sim: Simulator) -> dict[str, Any]:
    return next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Halted")


def running(sim: Simulator) -> dict[str, Any]:
    return next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Running")


def hrefs(collection: str, records: list[dict[str, Any]]) -> list[str]:
    return [f"/rest/v0/{collection}/{record['id']}" for record in records]


# Lists


@pytest.mark.parametrize(
    ("collection", "kind"),
    [
        ("vms", "VM"), ("vm-templates", "VM-template"), ("vm-snapshots", "VM-snapshot"), ("hosts", "host"),
        ("vm-controllers", "VM-controller"), ("vdis", "VDI"), ("vdi-snapshots", "VDI-snapshot"), ("vbds", "VBD"),
        ("vifs", "VIF"), ("srs", "SR"), ("pbds", "PBD"), ("pifs", "PIF"), ("networks", "network"), ("pools", "pool"),
        ("sms", "SM"), ("pcis", "PCI"), ("pgpus", "PGPU"),
    ],
)  # fmt: skip
async def test_each_type_has_a_collection(sim: Simulator, collection: str, kind: str) -> None:
    objects = sim.store.of_type(kind)
    assert (await get(sim, f"/{collection}")).json() == hrefs(collection, objects)
    full = (await get(sim, f"/{collection}?fields=*")).json()
    assert full == [item | {"href": f"/rest/v0/{collection}/{item['id']}"} for item in objects]
    for item in objects[:2]:
        assert (await get(sim, f"/{collection}/{item['id']}")).json() == item
        assert (await get(sim, f"/{collection.upper()}/{item['_xapiRef']}")).json() == item
        assert (await get(sim, f"/messages/{item['id']}")).status == 404


@pytest.mark.parametrize(
    "collection", ["users", "servers", "schedules", "backup-jobs", "backup-logs", "backup-repositories"]
)
async def test_records_of_its_own_are_listed_and_shown(sim: Simulator, collection: str) -> None:
    records = (await get(sim, f"/{collection}?fields=*")).json()
    assert records
    for record in records:
        assert record.pop("href") == f"/rest/v0/{collection}/{record['id']}"
        assert (await get(sim, f"/{collection}/{record['id']}")).json() == record
    assert (await get(sim, f"/{collection}/nope")).status == 404


@pytest.mark.parametrize("collection", ["proxies", "backup-archives", "restore-logs", "acl-roles", "acl-privileges"])
async def test_collections_without_records_are_empty(sim: Simulator, collection: str) -> None:
    assert (await get(sim, f"/{collection}")).body == b"[]"


async def test_alarms_are_messages_taken_apart(sim: Simulator) -> None:
    messages, alarms = (await get(sim, "/messages?fields=*")).json(), (await get(sim, "/alarms?fields=*")).json()
    assert len(messages) + len(alarms) == len(sim.store.of_type("message"))
    assert alarms
    assert not any("ALARM" in message["name"] for message in messages)
    for alarm in alarms:
        stored = sim.store.current(alarm["id"])
        assert alarm["time"] == stored["time"] * 1000
        assert "$object" not in alarm
        assert 0 <= float(alarm["body"]["value"]) <= 100
        about = sim.store.current(stored["$object"])
        assert alarm["object"]["type"] == about["type"]
        assert (await get(sim, alarm["object"]["href"].removeprefix("/rest/v0"))).json() == about
        assert (await get(sim, f"/messages/{alarm['id']}")).status == 404
        assert (await get(sim, f"/alarms/{alarm['id']}")).json() == {k: v for k, v in alarm.items() if k != "href"}
        part = f"{about['type'].lower()}s/{about['id']}/alarms"
        assert alarm["href"] in (await get(sim, f"/{part}")).json()


async def test_what_belongs_to_an_object(sim: Simulator) -> None:
    vm = running(sim)
    disks = [
        sim.store.current(vbd)["VDI"]
        for vbd in vm["$VBDs"]
        if not sim.store.current(vbd)["is_cd_drive"] and "VDI" in sim.store.current(vbd)
    ]
    assert (await get(sim, f"/vms/{vm['id']}/vdis")).json() == [f"/rest/v0/vdis/{disk}" for disk in disks]
    snapshot = sim.store.of_type("VM-snapshot")[0]
    of_snapshot = (await get(sim, f"/vm-snapshots/{snapshot['id']}/vdis")).json()
    assert of_snapshot
    assert all(href.startswith("/rest/v0/vdi-snapshots/") for href in of_snapshot)
    message = next(each for each in sim.store.of_type("message") if each["name"] == "VM_STARTED")
    of_vm = (await get(sim, f"/vms/{message['$object']}/messages")).json()
    assert of_vm == [f"/rest/v0/messages/{message['id']}"]
    assert (await get(sim, f"/vms/{vm['id']}/messages?filter=%20")).status == 400
    task = (await send(sim, "POST", f"/vms/{vm['id']}/actions/pause")).json()["taskId"]
    assert (await get(sim, f"/vms/{vm['id']}/tasks")).json() == [f"/rest/v0/tasks/{task}"]


async def test_filters_limits_and_fields_together(sim: Simulator) -> None:
    answer = await get(sim, "/vms?filter=power_state:/^Running$/&fields=name_label,CPUs.number,tags[0],nope&limit=3")
    expected = [vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Running"][:3]
    assert answer.json() == [
        {
            "name_label": vm["name_label"],
            "CPUs": {"number": vm["CPUs"]["number"]},
            "tags": vm["tags"][:1],
            "href": f"/rest/v0/vms/{vm['id']}",
        }
        for vm in expected
    ]
    assert list(answer.json()[0]) == ["name_label", "CPUs", "tags", "href"]


def test_picking_deep_fields_copies_and_merges() -> None:
    record = {"a": {"b": {"c": 1, "d": 2}, "e": [{"f": 3}, 4]}, "x.y": 5, "g": None}
    before = json.dumps(record)
    assert picker("a.b.c,a.e[0].f,x.y,g.h,a.z")(record) == {"a": {"b": {"c": 1}, "e": [{"f": 3}]}, "x.y": 5}
    assert picker("a.e.1")(record) == {"a": {"e": [None, 4]}}
    assert picker("a.b,a.b.c")(record) == {"a": {"b": {"c": 1, "d": 2}}}
    assert picker("")(record) == {}
    assert picker(" a")(record) == {}
    assert json.dumps(record) == before


@pytest.mark.parametrize(("limit", "length"), [("0", 0), ("2", 2), ("2.0", 2), ("-1", 24), ("1.5", 24), ("1e3", 24)])
async def test_limits(sim: Simulator, limit: str, length: int) -> None:
    assert len((await get(sim, f"/vms?limit={limit}")).json()) == length


async def test_an_updated_object_is_listed_last(sim: Simulator) -> None:
    vm = sim.store.of_type("VM")[0]
    assert (await send(sim, "PUT", f"/vms/{vm['id']}/tags/a%2Fb%20c")).status == 204
    listed = (await get(sim, "/vms?fields=id,tags")).json()
    assert listed[-1]["id"] == vm["id"]
    assert listed[-1]["tags"][-1] == "a/b c"
    assert (await send(sim, "PUT", f"/vms/{vm['id']}/tags/a%2Fb%20c")).status == 204
    assert sim.store.current(vm["id"])["tags"] == [*vm["tags"], "a/b c"]
    assert (await send(sim, "DELETE", f"/vms/{vm['id']}/tags/a%2Fb%20c")).status == 204
    assert (await send(sim, "DELETE", f"/vms/{vm['id']}/tags/never")).status == 204
    assert sim.store.current(vm["id"])["tags"] == vm["tags"]


async def test_ndjson_is_a_chunk_per_record(sim: Simulator) -> None:
    answer = await get(sim, "/vms?ndjson=true&fields=*", **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers
    vms = sim.store.of_type("VM")
    assert [json.loads(chunk) for chunk in answer.chunks] == [vm | {"href": f"/rest/v0/vms/{vm['id']}"} for vm in vms]
    assert all(chunk.endswith(b"\n") and chunk.count(b"\n") == 1 for chunk in answer.chunks)
    plain = await get(sim, "/vms?ndjson=true")
    assert [json.loads(chunk) for chunk in plain.chunks] == hrefs("vms", vms)
    empty = await get(sim, "/vms?ndjson=true&filter=name_label:zzz")
    assert (empty.status, empty.chunks) == (200, [])
    assert (await get(sim, "/vms?ndjson=True")).headers["content-type"].startswith("application/json")


async def test_markdown(sim: Simulator) -> None:
    vm = sim.store.update(sim.store.ids("VM")[0], name_description="a|b\nc", tags=["x"])
    answer = await get(sim, f"/vms?markdown=true&fields=id,name_description,tags&filter=id:{vm['id']}")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.body.decode() == (
        f'| id | name_description | tags |\n| --- | --- | --- |\n| {vm["id"]} | a\\|b c | ["x"] |'
    )
    assert (await get(sim, "/vms?markdown=true&limit=1")).body.decode() == hrefs("vms", sim.store.of_type("VM"))[0]
    assert (await get(sim, "/vms?markdown=true&limit=0")).body == b"No results."
    both = await get(sim, "/vms?markdown=true&ndjson=true")
    assert both.status == 422
    assert "both" in both.json()["error"]


async def test_compression_and_caching(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.get("/rest/v0/vms?fields=*", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "Content-Length" not in answer.headers
        packed, tag = await answer.json(), answer.headers["ETag"]
    async with http.get("/rest/v0/vms?fields=*") as answer:
        assert await answer.json() == packed
        assert answer.headers["ETag"] == tag
        assert answer.content_length is not None
    async with http.get("/rest/v0/vms?fields=*", headers={"If-None-Match": f'"x", {tag}'}) as answer:
        assert answer.status == 304
        assert await answer.read() == b""
    refused = {"Accept-Encoding": "gzip;q=0"}
    async with http.get("/rest/v0/vms?fields=*", headers=refused) as answer:
        assert "Content-Encoding" not in answer.headers


async def test_head_is_a_get_without_a_body(sim: Simulator) -> None:
    for path in ("/rest/v0/vms?limit=1", "/rest/v0/vms?ndjson=true", "/rest/v0/ping"):
        answer = await ask(sim, "HEAD", path, token=sim.token)
        assert (answer.status, answer.body) == (200, b"")


# Actions


async def wait(sim: Simulator, task: str) -> dict[str, Any]:
    record: dict[str, Any] = (await get(sim, f"/tasks/{task}?wait=true")).json()
    return record


async def test_an_action_is_a_task(sim: Simulator) -> None:
    vm = halted(sim)
    release = sim.faults.hold("VM.start")
    answer = await send(sim, "POST", f"/vms/{vm['id']}/actions/start", {})
    task = answer.json()["taskId"]
    assert (answer.status, answer.headers["location"]) == (202, f"/rest/v0/tasks/{task}")
    pending = (await get(sim, f"/tasks/{task}")).json()
    assert list(pending) == ["id", "properties", "start", "status", "updatedAt"]
    assert pending["status"] == "pending"
    assert list(pending["properties"].items()) == [
        ("args", {}),
        ("objectType", "VM"),
        ("name", "REST API: start VM"),
        ("objectId", vm["id"]),
        ("userId", next(iter(sim.accounts.users))),
        ("type", "xo:rest-api:action"),
    ]
    waiting = asyncio.create_task(get(sim, f"/tasks/{task}?wait=true"))
    assert (await get(sim, "/tasks?filter=status:pending")).json() == [f"/rest/v0/tasks/{task}"]
    assert not waiting.done()
    release.set()
    ended = (await waiting).json()
    assert list(ended) == [*pending, "end"]
    assert ended["status"] == "success"
    assert sim.store.current(vm["id"])["power_state"] == "Running"
    assert broken_links(sim.store.all()) == []


async def test_the_whole_life_of_a_vm(sim: Simulator) -> None:
    vm = halted(sim)["id"]
    states = [
        ("start", "Running"), ("pause", "Paused"), ("unpause", "Running"), ("suspend", "Suspended"),
        ("resume", "Running"), ("clean_reboot", "Running"), ("hard_reboot", "Running"), ("clean_shutdown", "Halted"),
        ("start", "Running"), ("hard_shutdown", "Halted"),
    ]  # fmt: skip
    for action, state in states:
        answer = await send(sim, "POST", f"/vms/{vm}/actions/{action}?sync=true")
        assert (answer.status, answer.body) == (204, b""), action
        assert sim.store.current(vm)["power_state"] == state
        assert broken_links(sim.store.all()) == [], action
    assert (await send(sim, "DELETE", f"/vms/{vm}")).status == 204
    assert (await get(sim, f"/vms/{vm}")).status == 404
    assert broken_links(sim.store.all()) == []
    assert set(sim.disks) == {*sim.store.ids("VDI"), *sim.store.ids("VDI-snapshot")}


async def test_a_failed_action_tells_all_in_its_task(sim: Simulator) -> None:
    vm = running(sim)
    task = (await send(sim, "POST", f"/vms/{vm['id']}/actions/start")).json()["taskId"]
    record = await wait(sim, task)
    assert record["status"] == "failure"
    result = record["result"]
    assert list(result) == ["code", "params", "call", "message", "name", "stack"]
    assert result["code"] == "VM_BAD_POWER_STATE"
    assert result["params"] == [vm["_xapiRef"], "halted", "running"]
    assert result["call"]["method"] == "VM.start"
    assert result["call"]["params"] == ["* session id *", vm["_xapiRef"], False, False]
    assert result["name"] == "XapiError"


async def test_a_start_can_name_its_host(sim: Simulator) -> None:
    vm = halted(sim)
    host = sim.store.of_type("host")[-1]["id"]
    answer = await send(sim, "POST", f"/vms/{vm['id']}/actions/start?sync=true", {"hostId": host})
    assert answer.status == 204
    assert sim.store.current(vm["id"])["$container"] == host
    other = sim.store.of_type("host")[0]["id"]
    moved = await send(sim, "POST", f"/vms/{vm['id']}/actions/migrate?sync=true", {"hostId": other})
    assert moved.status == 204
    assert sim.store.current(vm["id"])["$container"] == other
    assert broken_links(sim.store.all()) == []


async def test_snapshot_clone_and_revert(sim: Simulator) -> None:
    vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Halted" and not vm["snapshots"])
    body = {"name_label": "before"}
    snapshot = (await send(sim, "POST", f"/vms/{vm['id']}/actions/snapshot?sync=true", body)).json()["id"]
    task = (await send(sim, "POST", f"/vms/{vm['id']}/actions/snapshot")).json()["taskId"]
    record = await wait(sim, task)
    assert sim.store.current(record["result"]["id"])["name_label"] == vm["name_label"]
    clone = (await send(sim, "POST", f"/vms/{vm['id']}/actions/clone?sync=true", {"fast": True})).json()["id"]
    assert sim.store.current(clone)["$VBDs"]
    wrong = await send(sim, "POST", f"/vms/{clone}/actions/revert_snapshot?sync=true", {"snapshotId": snapshot})
    assert wrong.status == 422
    right = await send(sim, "POST", f"/vms/{vm['id']}/actions/revert_snapshot?sync=true", {"snapshotId": snapshot})
    assert right.status == 204
    assert broken_links(sim.store.all()) == []
    assert (await send(sim, "DELETE", f"/vm-snapshots/{snapshot}")).status == 204
    assert (await send(sim, "DELETE", f"/vms/{vm['id']}")).status == 204
    assert broken_links(sim.store.all()) == []


async def test_a_vm_from_a_template(sim: Simulator) -> None:
    pool = sim.store.of_type("pool")[0]
    default = next(each for each in sim.store.of_type("VM-template") if each["isDefaultTemplate"])
    network = sim.store.of_type("network")[0]["id"]
    path = f"/pools/{pool['id']}/actions/create_vm?sync=true"
    body = {"name_label": "new", "template": default["uuid"], "memory": 2**30, "cpus": 3, "boot": True}
    body |= {"vifs": [{"network": network}], "vdis": [{"name_label": "root", "size": 2**21}]}
    made = await send(sim, "POST", path, body)
    assert made.status == 201
    assert "location" not in made.headers
    vm = sim.store.current(made.json()["id"])
    assert (vm["CPUs"]["number"], vm["memory"]["size"], vm["power_state"]) == (3, 2**30, "Running")
    assert broken_links(sim.store.all()) == []
    refused = await send(sim, "POST", path, body | {"template": default["id"]})
    assert refused.status == 404
    missing = await send(sim, "POST", path, {"name_label": "x"})
    assert missing.json()["error"] == {"body.template": {"message": "'template' is required"}}
    deleted = await send(sim, "DELETE", f"/vm-templates/{default['id']}")
    assert (deleted.status, deleted.json()["error"]) == (409, "incorrect state")


async def test_blocked_operations(sim: Simulator) -> None:
    vm = halted(sim)["id"]
    blocked = {"blockedOperations": {"destroy": "keep it", "start": True, "pause": False}}
    assert (await send(sim, "PATCH", f"/vms/{vm}", blocked)).status == 204
    assert sim.store.current(vm)["blockedOperations"] == {"destroy": "keep it", "start": "true"}
    answer = await send(sim, "DELETE", f"/vms/{vm}")
    assert answer.status == 403
    assert answer.json() == {
        "error": "forbidden operation: destroy",
        "data": {"operation": "destroy", "reason": "keep it"},
    }
    answer = await send(sim, "POST", f"/vms/{vm}/actions/start?sync=true")
    assert answer.json()["error"].startswith("OPERATION_BLOCKED(")


async def test_editing_a_vm(sim: Simulator) -> None:
    vm = halted(sim)["id"]
    changes = {
        "nameLabel": "n", "nameDescription": "d", "tags": ["t"], "notes": "o", "cpus": 8, "memory": "2 GiB",
        "autoPoweron": True, "hvmBootFirmware": "bios", "xenStoreData": {"k": "v"}, "affinityHost": None,
        "coresPerSocket": "2", "uefiMode": "setup", "cpuWeight": 10,
    }  # fmt: skip
    assert (await send(sim, "PATCH", f"/vms/{vm}", changes)).status == 204
    record = sim.store.current(vm)
    assert (record["name_label"], record["name_description"], record["tags"], record["notes"]) == ("n", "d", ["t"], "o")
    assert record["CPUs"] == {"max": 8, "number": 8}
    assert record["memory"]["size"] == 2 * 2**30
    assert record["xenStoreData"] == {"vm-data/k": "v"}
    assert record["boot"]["firmware"] == "bios"
    assert record["coresPerSocket"] == 2
    assert "affinityHost" not in record
    assert "uefiMode" not in record
    assert list(record)[-5:] == ["id", "uuid", "$pool", "$poolId", "_xapiRef"]
    assert (await send(sim, "PATCH", f"/vms/{vm}", {"notes": None})).status == 204
    assert "notes" not in sim.store.current(vm)
    assert (await send(sim, "PATCH", f"/vms/{vm}", {"memory": "much"})).status == 422
    alive = await send(sim, "PATCH", f"/vms/{running(sim)['id']}", {"memory": 2**30})
    assert alive.status == 500
    assert broken_links(sim.store.all()) == []


async def test_several_problems_of_a_body(sim: Simulator) -> None:
    answer = await send(sim, "PATCH", f"/vms/{halted(sim)['id']}", {"cpus": "x", "tags": [1], "vga": 1, "zzz": 0})
    assert answer.json() == {
        "error": {
            "body.cpus": {"message": "invalid float number", "value": "x"},
            "body.tags.$0": {"message": "invalid string value", "value": 1},
            "body.vga": {"message": "Value does not match any allowed schema", "value": 1},
            "body.zzz": {"message": '"zzz" is an excess property and therefore is not allowed', "value": "zzz"},
        },
        "data": {},
    }


async def test_disks_drives_and_interfaces(sim: Simulator) -> None:
    vm, pool = halted(sim), sim.store.of_type("pool")[0]
    body = {"srId": pool["default_SR"], "virtual_size": 1_000_000, "name_label": "data"}
    vdi = (await send(sim, "POST", "/vdis", body)).json()["id"]
    assert sim.store.current(vdi)["size"] == 1_000_448
    assert (await send(sim, "PATCH", f"/vdis/{vdi}", {"size": 2**21, "name_description": "d"})).status == 204
    assert (sim.store.current(vdi)["size"], sim.store.current(vdi)["name_description"]) == (2**21, "d")
    assert (await send(sim, "PATCH", f"/vdis/{vdi}", {"size": 512})).status == 422
    vbd = (await send(sim, "POST", "/vbds", {"VM": vm["id"], "VDI": vdi})).json()["id"]
    network = sim.store.of_type("network")[1]["id"]
    vif = (await send(sim, "POST", "/vifs", {"vmId": vm["id"], "networkId": network, "MTU": 9000})).json()["id"]
    assert sim.store.current(vif)["MTU"] == 9000
    assert (await send(sim, "PATCH", f"/vifs/{vif}", {"lockingMode": "locked", "rateLimit": 5})).status == 204
    assert sim.store.current(vif)["rateLimit"] == 5
    assert broken_links(sim.store.all()) == []
    plugged = await send(sim, "POST", f"/vbds/{vbd}/actions/connect?sync=true")
    assert plugged.json()["error"].startswith("VM_BAD_POWER_STATE(")
    target = next(sr["id"] for sr in sim.store.of_type("SR") if not sr["shared"])
    moved = (await send(sim, "POST", f"/vdis/{vdi}/actions/migrate?sync=true", {"srId": target})).json()["id"]
    assert moved != vdi
    assert sim.store.current(moved)["$SR"] == target
    assert sim.store.current(vbd)["VDI"] == moved
    assert broken_links(sim.store.all()) == []
    await send(sim, "POST", f"/vms/{vm['id']}/actions/start?sync=true")
    in_use = await send(sim, "DELETE", f"/vdis/{moved}")
    assert in_use.status == 500
    assert in_use.json()["error"].startswith("VDI_IN_USE(")
    await send(sim, "POST", f"/vms/{vm['id']}/actions/hard_shutdown?sync=true")
    for path in (f"/vifs/{vif}", f"/vbds/{vbd}", f"/vdis/{moved}"):
        assert (await send(sim, "DELETE", path)).status == 204
        assert (await get(sim, path)).status == 404
    assert broken_links(sim.store.all()) == []


# Tasks


async def test_aborting_is_a_wish(sim: Simulator) -> None:
    release = sim.faults.hold("VM.suspend")
    task = (await send(sim, "POST", f"/vms/{running(sim)['id']}/actions/suspend")).json()["taskId"]
    assert (await send(sim, "POST", f"/tasks/{task}/actions/abort?sync=true")).status == 204
    record = (await get(sim, f"/tasks/{task}")).json()
    assert record["status"] == "pending"
    assert record["abortionRequestedAt"] >= record["start"]
    release.set()
    record = await wait(sim, task)
    assert record["status"] == "success"
    assert list(record)[-2:] == ["abortionRequestedAt", "end"]
    late = await send(sim, "POST", f"/tasks/{task}/actions/abort?sync=true")
    assert (late.status, late.json()["error"]) == (404, f"no such task {task}")
    second = (await send(sim, "POST", f"/tasks/{task}/actions/abort")).json()["taskId"]
    assert (await wait(sim, second))["status"] == "failure"


async def test_deleting_tasks(sim: Simulator) -> None:
    for _ in range(3):
        task = (await send(sim, "POST", f"/hosts/{sim.store.ids('host')[0]}/actions/enable")).json()["taskId"]
        await wait(sim, task)
    assert (await send(sim, "DELETE", f"/tasks/{task}")).status == 204
    assert (await send(sim, "DELETE", f"/tasks/{task}")).status == 404
    assert len((await get(sim, "/tasks")).json()) == 2
    assert (await send(sim, "DELETE", "/tasks")).status == 204
    assert (await get(sim, "/tasks")).json() == []


async def test_watching_tasks(sim: Simulator) -> None:
    assert (await get(sim, "/tasks?watch=true")).status == 400
    reader, writer = await connect(sim)
    path = "/rest/v0/tasks?watch=true&ndjson=true&fields=id,status"
    writer.write(head("GET", path, {"Cookie": f"token={sim.token}"}))
    answer = asyncio.create_task(read_head(reader))
    for _ in range(3):
        await ask(sim, "GET", "/rest/v0/ping")
    assert not answer.done()
    task = (await send(sim, "POST", f"/hosts/{sim.store.ids('host')[0]}/actions/enable")).json()["taskId"]
    assert "content-type" not in (await answer).headers
    item = {"id": task, "status": "pending", "href": f"/rest/v0/tasks/{task}"}
    assert json.loads(await read_chunk(reader)) == ["update", item]
    assert json.loads(await read_chunk(reader)) == ["update", item | {"status": "success"}]
    await send(sim, "DELETE", f"/tasks/{task}")
    assert json.loads(await read_chunk(reader)) == ["remove", {"id": task, "href": f"/rest/v0/tasks/{task}"}]
    writer.close()


# People


async def test_users_groups_and_servers(sim: Simulator) -> None:
    user = (await send(sim, "POST", "/users", {"name": "u", "password": "p"})).json()["id"]
    assert (await send(sim, "POST", "/users", {"name": "u", "password": "p"})).status == 409
    group = (await send(sim, "POST", "/groups", {"name": "g"})).json()["id"]
    assert (await send(sim, "PUT", f"/groups/{group}/users/{user}")).status == 204
    assert (await get(sim, f"/users/{user}/groups")).json() == [f"/rest/v0/groups/{group}"]
    assert (await get(sim, f"/groups/{group}/users")).json() == [f"/rest/v0/users/{user}"]
    assert (await send(sim, "PATCH", f"/users/{user}", {"name": "v", "permission": "admin"})).status == 204
    assert (await get(sim, f"/users/{user}")).json()["email"] == "v"
    assert (await send(sim, "PATCH", f"/groups/{group}", {"name": "h"})).status == 204
    assert (await send(sim, "DELETE", f"/users/{user}")).status == 204
    assert (await get(sim, f"/groups/{group}")).json() == {"id": group, "name": "h", "users": [], "aclRoleIds": []}
    assert (await send(sim, "DELETE", f"/groups/{group}")).status == 204
    body = {"host": "192.0.2.9", "username": "root", "password": "secret"}
    server = (await send(sim, "POST", "/servers", body)).json()["id"]
    assert "password" not in (await get(sim, f"/servers/{server}")).json()
    assert (await send(sim, "POST", "/servers", body)).status == 409
    assert (await send(sim, "DELETE", f"/servers/{server}")).status == 204


async def test_tokens_are_ones_own(sim: Simulator) -> None:
    me = next(iter(sim.accounts.users))
    path = f"/users/{me}/authentication_tokens"
    body = {"client": {"id": "x"}, "description": "d", "expiresIn": "1 hour"}
    first, again = (await send(sim, "POST", path, body)).json()["token"], (await send(sim, "POST", path, body)).json()
    assert list(first) == ["client", "created_at", "description", "id", "user_id", "expiration"]
    assert list(again["token"]) == ["client", "created_at", "description", "user_id", "expiration", "id"]
    assert first["id"] == again["token"]["id"]
    assert len(first["id"]) == 43
    listed = (await get(sim, f"{path}?filter=description:d")).json()
    assert [token["id"] for token in listed] == [first["id"]]
    assert (await ask(sim, "GET", "/rest/v0/vms?limit=1", token=first["id"])).status == 200
    sim.clock.advance(3601)
    assert (await ask(sim, "GET", "/rest/v0/vms?limit=1", token=first["id"])).status == 401
    other = sim.accounts.add_user("other", "p").id
    assert (await get(sim, f"/users/{other}/authentication_tokens")).status == 403


async def test_a_plain_user_sees_themselves_and_nothing_else(sim: Simulator) -> None:
    user = sim.accounts.add_user("plain", "plain")
    token = sim.accounts.create_token(user)[0].id
    for collection in ("vms", "users", "groups", "tasks", "servers", "alarms"):
        assert (await ask(sim, "GET", f"/rest/v0/{collection}", token=token)).body == b"[]"
    assert (await ask(sim, "GET", f"/rest/v0/users/{user.id}", token=token)).json()["email"] == "plain"
    assert (await ask(sim, "GET", f"/rest/v0/users/{next(iter(sim.accounts.users))}", token=token)).status == 403
    assert (await ask(sim, "GET", "/rest/v0/vms/nope", token=token)).status == 404
    deprecated = await ask(sim, "POST", "/rest/v0/users/authentication_tokens", token=token)
    assert deprecated.json() == {"error": "not enough permissions", "data": {"object": {}}}


async def test_the_throttle_of_basic_ends_after_two_seconds(sim: Simulator) -> None:
    right, wrong = "Basic YWRtaW5AYWRtaW4ubmV0OmFkbWlu", "Basic YWRtaW5AYWRtaW4ubmV0Ondyb25n"

    async def status(authorization: str) -> int:
        return (await ask(sim, "GET", "/rest/v0/vms?limit=1", headers={"Authorization": authorization})).status

    assert [await status(wrong), await status(right)] == [401, 500]
    sim.clock.advance(2)
    assert await status(right) == 200
    empty = await ask(sim, "GET", "/rest/v0/ping", headers={"Authorization": "Basic YWRtaW5AYWRtaW4ubmV0Og=="})
    assert empty.json() == {"error": "empty password"}
    assert (await ask(sim, "GET", "/rest/v0/ping", token="wrong")).status == 401


async def test_me(sim: Simulator) -> None:
    me = next(iter(sim.accounts.users))
    moved = await ask(sim, "POST", "/rest/v0/users/me/authentication_tokens?x=1", token=sim.token)
    assert (moved.status, moved.headers["location"]) == (307, f"/rest/v0/users/{me}/authentication_tokens?x=1")
    query = await get(sim, "/users/me?fields=name")
    assert (query.status, query.json()["error"]) == (404, "no such user me")
    assert (await ask(sim, "GET", "/rest/v0/users/me")).status == 401


# The server itself


async def test_the_document_describes_what_there_is(sim: Simulator) -> None:
    document = (await ask(sim, "GET", "/rest/v0/docs/swagger.json")).json()
    assert document["servers"] == [{"url": "/rest/v0"}]
    operations = [(method, path) for path, methods in document["paths"].items() for method in methods]
    assert len(operations) > 150
    for path, methods in document["paths"].items():
        if "get" not in methods or "{" in path or path == "/events":
            continue
        assert (await get(sim, path)).status == 200, path


async def test_requests_are_remembered(sim: Simulator) -> None:
    await get(sim, "/vms?limit=1")
    assert sim.requests[-1] == ("GET", "/rest/v0/vms", "limit=1", 200)


async def test_reads_can_lag_behind() -> None:
    async with Simulator(vms=4, latency=(0, 0), eventual=True, flush_interval=600) as sim:
        vm = sim.store.of_type("VM")[0]["id"]
        sim.store.update(vm, name_description="flushed at once")
        flushed = asyncio.Event()
        sim.store.subscribe(lambda _: flushed.set())
        await flushed.wait()
        assert (await send(sim, "PATCH", f"/vms/{vm}", {"nameLabel": "new"})).status == 204
        assert (await get(sim, f"/vms/{vm}")).json()["name_label"] != "new"
        body = {"srId": sim.store.of_type("pool")[0]["default_SR"], "virtual_size": 512}
        vdi = (await send(sim, "POST", "/vdis", body)).json()["id"]
        assert (await get(sim, f"/vdis/{vdi}")).status == 404
        sim.store.flush()
        assert (await get(sim, f"/vms/{vm}")).json()["name_label"] == "new"
        assert (await get(sim, f"/vdis/{vdi}")).status == 200


# What is less common


async def test_networks_come_and_go(sim: Simulator) -> None:
    pool = sim.store.ids("pool")[0]
    pif = next(pif for pif in sim.store.of_type("PIF") if pif["device"] == "eth1")["id"]
    path = f"/pools/{pool}/actions"
    body = {"name": "vlan 7", "pif": pif, "vlan": 7, "mtu": 9000, "description": "d"}
    network = (await send(sim, "POST", f"{path}/create_network?sync=true", body)).json()["id"]
    made = sim.store.current(network)
    assert (made["name_label"], made["MTU"], made["name_description"]) == ("vlan 7", 9000, "d")
    assert [sim.store.current(each)["vlan"] for each in made["PIFs"]] == [7] * len(sim.store.of_type("host"))
    internal = (await send(sim, "POST", f"{path}/create_internal_network?sync=true", {"name": "in"})).json()["id"]
    assert sim.store.current(internal)["PIFs"] == []
    assert sim.store.current(internal)["bridge"] != made["bridge"]
    assert broken_links(sim.store.all()) == []
    for each in (network, internal):
        assert (await send(sim, "DELETE", f"/networks/{each}")).status == 204
    used = next(network for network in sim.store.of_type("network") if network["VIFs"])
    assert (await send(sim, "DELETE", f"/networks/{used['id']}")).json()["error"].startswith("NETWORK_CONTAINS_VIF(")
    assert broken_links(sim.store.all()) == []


async def test_a_pool_can_be_let_go_and_taken_back(sim: Simulator) -> None:
    server = next(iter(sim.records["servers"]))
    before = dict(sim.store.all())
    path = f"/servers/{server}/actions"
    assert (await send(sim, "POST", f"{path}/connect?sync=true")).status == 409
    assert (await send(sim, "POST", f"{path}/disconnect?sync=true")).status == 204
    assert (await get(sim, "/vms")).json() == []
    record = (await get(sim, f"/servers/{server}")).json()
    assert (record["status"], "poolId" in record) == ("disconnected", False)
    assert (await send(sim, "POST", f"{path}/connect?sync=true")).status == 204
    assert sim.store.all() == before
    assert (await get(sim, f"/servers/{server}")).json()["poolId"] == sim.store.ids("pool")[0]


@pytest.mark.parametrize(("granularity", "interval", "count"), [("seconds", 5, 120), ("hours", 3600, 168)])
async def test_statistics(sim: Simulator, granularity: str, interval: int, count: int) -> None:
    vm = running(sim)
    stats = (await get(sim, f"/vms/{vm['id']}/stats?granularity={granularity}")).json()
    assert (stats["interval"], stats["endTimestamp"] % interval) == (interval, 0)
    assert list(stats["stats"]["cpus"]) == [str(number) for number in range(vm["CPUs"]["number"])]
    usage = stats["stats"]["cpuUsage"]
    assert len(usage) == count
    assert all(0 <= value <= 100 for value in usage)
    assert len(set(usage)) > count / 2
    sim.clock.advance(interval)
    later = (await get(sim, f"/vms/{vm['id']}/stats?granularity={granularity}")).json()
    shift = (later["endTimestamp"] - stats["endTimestamp"]) // interval
    assert later["stats"]["cpuUsage"][:-shift] == usage[shift:]
    host = sim.store.ids("host")[0]
    of_host = (await get(sim, f"/hosts/{host}/stats?granularity={granularity}")).json()
    assert (await get(sim, f"/pools/{vm['$pool']}/stats?granularity={granularity}")).json()[host] == of_host
    assert (await get(sim, f"/vms/{halted(sim)['id']}/stats")).status == 422
    assert (await get(sim, f"/vms/{vm['id']}/stats?granularity=years")).status == 422


async def test_the_dashboard_adds_up(sim: Simulator) -> None:
    dashboard = (await get(sim, "/dashboard")).json()
    assert dashboard["vmsStatus"]["total"] == len(sim.store.of_type("VM"))
    assert dashboard["vmsStatus"]["running"] == len(
        [vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Running"]
    )
    assert dashboard["nHosts"] == dashboard["hostsStatus"]["total"] == len(sim.store.of_type("host"))


async def test_what_only_a_real_server_can(sim: Simulator) -> None:
    host = sim.store.ids("host")[0]
    assert (await send(sim, "POST", f"/hosts/{host}/actions/clean_reboot")).status == 501
    assert (await send(sim, "POST", "/hosts/nope/actions/clean_reboot")).status == 404
    assert (await ask(sim, "POST", f"/rest/v0/hosts/{host}/actions/clean_reboot")).status == 401
    assert (await send(sim, "POST", f"/hosts/{host}/actions/fly")).headers["content-type"].startswith("text/html")


async def test_jobs_of_a_vm_and_privileges_of_nobody(sim: Simulator) -> None:
    job = next(iter(sim.records["backup-jobs"].values()))
    for vm in job["vms"]["id"]["__or"]:
        assert (await get(sim, f"/vms/{vm}/backup-jobs")).json() == [f"/rest/v0/backup-jobs/{job['id']}"]
    me = next(iter(sim.accounts.users))
    assert (await get(sim, f"/users/{me}/acl-privileges")).json() == []
    schedule = next(iter(sim.records["schedules"]))
    assert (await send(sim, "POST", f"/schedules/{schedule}/actions/run?sync=true")).status == 204


async def test_an_object_can_go_while_it_is_worked_on(sim: Simulator) -> None:
    vm = halted(sim)
    release = sim.faults.hold("VM.start")
    task = (await send(sim, "POST", f"/vms/{vm['id']}/actions/start")).json()["taskId"]
    assert (await send(sim, "DELETE", f"/vms/{vm['id']}")).status == 204
    release.set()
    result = (await wait(sim, task))["result"]
    assert (result["code"], result["params"]) == ("HANDLE_INVALID", ["VM", vm["_xapiRef"]])
    assert broken_links(sim.store.all()) == []


async def test_mistakes_of_its_own_are_answered_and_logged(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    sim.store.put({"id": "odd", "type": "VM", "_xapiRef": "OpaqueRef:odd", "tags": None})
    answer = await send(sim, "PUT", "/vms/odd/tags/x")
    assert answer.status == 500
    assert list(answer.json()) == ["error"]
    task = (await send(sim, "POST", "/vms/odd/actions/pause")).json()["taskId"]
    assert (await wait(sim, task))["status"] == "failure"
    assert {record.name for record in caplog.records} == {
        "aioxo.simulator.rest.door",
        "aioxo.simulator.tasks",
    }
