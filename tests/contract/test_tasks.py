"""Actions as tasks: how they are accepted, waited for, how they end, and what is left of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import aioxo

if TYPE_CHECKING:
    from .servers import Server

#: Action, the state it starts from, the state it ends in.
POWER = [
    ("start", "Halted", "Running"),
    ("clean_shutdown", "Running", "Halted"),
    ("hard_shutdown", "Running", "Halted"),
    ("clean_reboot", "Running", "Running"),
    ("hard_reboot", "Running", "Running"),
    ("pause", "Running", "Paused"),
    ("suspend", "Running", "Suspended"),
]


@pytest.mark.parametrize(("action", "before", "after"), POWER)
async def test_a_power_action(xo: aioxo.Client, server: Server, action: str, before: str, after: str) -> None:
    vm = server.first("VM", power_state=before)
    task = await getattr(xo.vms, action)(vm["id"])
    assert await task.wait(timeout=30) is None
    assert task.status == "success"
    assert (await xo.vms.get(vm["id"]))["power_state"] == after


@pytest.mark.parametrize(("action", "before", "after"), POWER)
async def test_a_power_action_at_once(xo: aioxo.Client, server: Server, action: str, before: str, after: str) -> None:
    vm = server.first("VM", power_state=before)
    assert await xo.vms.action(vm["id"], action, sync=True) is None
    assert (await xo.vms.get(vm["id"]))["power_state"] == after


async def test_there_and_back(xo: aioxo.Client, server: Server) -> None:
    key = server.first("VM", power_state="Running")["id"]
    for action, state in (("pause", "Paused"), ("unpause", "Running"), ("suspend", "Suspended"), ("resume", "Running")):
        await (await getattr(xo.vms, action)(key)).wait(timeout=30)
        assert (await xo.vms.get(key))["power_state"] == state


async def test_a_machine_is_started_where_asked(xo: aioxo.Client, server: Server) -> None:
    key = server.first("VM", power_state="Halted")["id"]
    host = list(server.of_type("host"))[-1]
    await (await xo.vms.start(key, host_id=host)).wait(timeout=30)
    assert (await xo.vms.get(key))["$container"] == host


async def test_how_an_action_is_accepted(modern: Server) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    reply = await modern.raw("POST", f"/vms/{key}/actions/start", token=modern.token)
    assert reply.status == 202
    assert reply.headers["Content-Type"].startswith("application/json")
    task = reply.json()["taskId"]
    assert reply.json() == {"taskId": task}
    assert reply.headers["Location"] == f"/rest/v0/tasks/{task}"


async def test_the_record_of_a_task(modern: Server) -> None:
    vm = modern.first("VM", power_state="Running")
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        task = await xo.vms.snapshot(vm["id"], name_label="before")
        result = await task.wait(timeout=30)
        record = await xo.tasks.get(str(task.id))
        me = await xo.request("GET", "/users/me")
    assert record["status"] == "success"
    assert record["result"] == result
    assert record["start"] <= record["end"]
    assert record["properties"]["name"] == "REST API: snapshot VM"
    assert record["properties"]["type"] == "xo:rest-api:action"
    assert record["properties"]["objectId"] == vm["id"]
    assert record["properties"]["objectType"] == "VM"
    assert record["properties"]["userId"] == me["id"]


async def test_the_parameters_of_a_task(modern: Server) -> None:
    vm, host = modern.first("VM", power_state="Halted"), list(modern.of_type("host"))[-1]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        started = await xo.vms.start(vm["id"], host_id=host)
        await started.wait(timeout=30)
        assert started.record["properties"]["args"] == {"hostId": host}
        halted = await xo.vms.hard_shutdown(vm["id"])
        await halted.wait(timeout=30)
        cloned = await xo.vms.action(vm["id"], "clone", name_label="twin", fast=True)
        await cloned.wait(timeout=30)
        assert cloned.record["properties"]["params"] == {"name_label": "twin", "fast": True}


async def test_a_snapshot_is_the_result(xo: aioxo.Client, server: Server) -> None:
    vm = server.first("VM", power_state="Running")
    result = await (await xo.vms.snapshot(vm["id"], name_label="before")).wait(timeout=30)
    snapshot = await xo.vm_snapshots.get(result["id"])
    assert snapshot["name_label"] == "before"
    assert snapshot["$snapshot_of"] == vm["id"]
    assert (await xo.vms.get(vm["id"]))["snapshots"] == [*vm["snapshots"], result["id"]]


async def test_a_snapshot_at_once_says_where_it_is(modern: Server) -> None:
    key = modern.first("VM", power_state="Running")["id"]
    reply = await modern.raw("POST", f"/vms/{key}/actions/snapshot?sync=true", token=modern.token)
    assert reply.status == 201
    assert reply.headers["Location"] == f"/rest/v0/vm-snapshots/{reply.json()['id']}"


async def test_a_clone(xo: aioxo.Client, server: Server) -> None:
    vm = server.first("VM", power_state="Halted")
    task = await xo.vms.action(vm["id"], "clone", name_label="twin")
    result = await task.wait(timeout=30)
    assert (await xo.vms.get(result["id"]))["name_label"] == "twin"


async def test_a_machine_is_reverted(xo: aioxo.Client, server: Server) -> None:
    vm = server.first("VM", power_state="Running")
    snapshot = (await (await xo.vms.snapshot(vm["id"])).wait(timeout=30))["id"]
    task = await xo.vms.action(vm["id"], "revert_snapshot", snapshotId=snapshot)
    assert await task.wait(timeout=30) is None


# Failures


async def test_a_task_that_fails(xo: aioxo.Client, server: Server) -> None:
    vm = server.first("VM", power_state="Running")
    task = await xo.vms.start(vm["id"])
    with pytest.raises(aioxo.TaskFailed) as caught:
        await task.wait(timeout=30)
    assert caught.value.code == "VM_BAD_POWER_STATE"
    assert caught.value.params == (vm["_xapiRef"], "halted", "running")
    assert caught.value.task["status"] == "failure"
    result = caught.value.task["result"]
    assert result["name"] == "XapiError"
    assert result["message"] == f"VM_BAD_POWER_STATE({vm['_xapiRef']}, halted, running)"
    assert result["call"]["method"] == "VM.start"


async def test_a_task_that_the_pool_lets_down(xo: aioxo.Client, server: Server) -> None:
    await server.fail("VM.snapshot", "SR_FULL", "100", "5")
    task = await xo.vms.snapshot(server.first("VM", power_state="Running")["id"])
    with pytest.raises(aioxo.TaskFailed, match="SR_FULL") as caught:
        await task.wait(timeout=30)
    assert (caught.value.code, caught.value.params) == ("SR_FULL", ("100", "5"))
    with pytest.raises(aioxo.TaskFailed):
        await task.wait(timeout=30)


async def test_a_task_that_a_handler_refuses(modern: Server) -> None:
    key = modern.first("VM", power_state="Running")["id"]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        task = await xo.vms.action(key, "revert_snapshot", snapshotId="nope")
        with pytest.raises(aioxo.TaskFailed, match="does not belong") as caught:
            await task.wait(timeout=30)
    assert caught.value.code == 10


async def test_what_is_wrong_with_the_request_makes_no_task(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        with pytest.raises(aioxo.NotFound):
            await xo.vms.start("nope")
        with pytest.raises(aioxo.InvalidParameters):
            await xo.vms.action(modern.first("VM")["id"], "start", speed="fast")
        assert await xo.tasks.list() == []


# While it lasts


async def test_a_task_that_takes_its_time(xo: aioxo.Client, server: Server) -> None:
    key = server.first("VM", power_state="Running")["id"]
    await server.hold("VM.clean_reboot")
    task = await xo.vms.clean_reboot(key)
    assert task.status == "unknown"
    assert (await task.refresh())["status"] == "pending"
    with pytest.raises(aioxo.Timeout) as caught:
        await task.wait(timeout=0.05)
    assert caught.value.limit == "timeout"
    waiting = asyncio.create_task(task.wait(timeout=30))
    await server.release("VM.clean_reboot")
    assert await waiting is None
    assert task.status == "success"


async def test_tasks_are_listed_and_filtered(xo: aioxo.Client, server: Server) -> None:
    running, halted = server.first("VM", power_state="Running")["id"], server.first("VM", power_state="Halted")["id"]
    await server.hold("VM.clean_reboot")
    slow = await xo.vms.clean_reboot(running)
    quick = await xo.vms.start(halted)
    await quick.wait(timeout=30)
    assert [each["id"] for each in await xo.tasks.list(filter="status:pending")] == [slow.id]
    assert [each["id"] for each in await xo.tasks.list(filter="status:success")] == [quick.id]
    assert await xo.tasks.hrefs() == [f"/rest/v0/tasks/{slow.id}", f"/rest/v0/tasks/{quick.id}"]
    assert await xo.request("GET", f"/vms/{running}/tasks") == [f"/rest/v0/tasks/{slow.id}"]
    await server.release("VM.clean_reboot")
    await slow.wait(timeout=30)


async def test_an_abort_is_a_request(modern: Server) -> None:
    key = modern.first("VM", power_state="Running")["id"]
    await modern.hold("VM.clean_reboot")
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        task = await xo.vms.clean_reboot(key)
        await xo.tasks.action(str(task.id), "abort", sync=True)
        record = await task.refresh()
        assert record["status"] == "pending"
        assert isinstance(record["abortionRequestedAt"], int)
        await modern.release("VM.clean_reboot")
        await task.wait(timeout=30)
        assert task.status == "success"
        with pytest.raises(aioxo.NotFound):
            await xo.tasks.action(str(task.id), "abort", sync=True)
        await task.abort()


async def test_records_are_deleted(modern: Server) -> None:
    vms = [key for key, vm in modern.of_type("VM").items() if vm["power_state"] == "Running"][:3]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        tasks = [await xo.vms.clean_reboot(key) for key in vms]
        for task in tasks:
            await task.wait(timeout=30)
        await xo.tasks.delete(str(tasks[0].id))
        with pytest.raises(aioxo.NotFound) as caught:
            await tasks[0].refresh()
        assert caught.value.data == {"id": tasks[0].id, "type": "task"}
        assert len(await xo.tasks.hrefs()) == len(tasks) - 1
        await xo.request("DELETE", "/tasks")
        assert await xo.tasks.hrefs() == []


async def test_other_actions(modern: Server) -> None:
    storage, host = modern.first("SR")["id"], modern.first("host")["id"]
    pool = modern.first("pool")["id"]
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        assert await (await xo.srs.action(storage, "scan")).wait(timeout=30) is None
        assert await xo.hosts.action(host, "disable", sync=True) is None
        assert (await xo.hosts.get(host))["enabled"] is False
        assert await xo.hosts.action(host, "enable", sync=True) is None
        assert (await xo.hosts.get(host))["enabled"] is True
        made = await xo.pools.action(pool, "create_internal_network", sync=True, name="inside", mtu=9000)
        network = await xo.networks.get(made["id"])
        assert (network["name_label"], network["MTU"]) == ("inside", 9000)
        await xo.networks.delete(made["id"])
        with pytest.raises(aioxo.NotFound):
            await xo.networks.get(made["id"])
