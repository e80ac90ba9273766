"""What can be done to objects over REST, and the tasks it becomes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from .consistency import broken_links
from .picks import halted, running
from .wire import ask, connect, get, head, read_chunk, read_head, send, wait

if TYPE_CHECKING:
    import pytest

    from aioxo.simulator import Simulator


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
