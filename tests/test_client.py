"""The client against the simulator, in both dialects, through the public names alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo import F
from aioxo.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=["2026", "2023"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def simulator(dialect: str) -> AsyncIterator[Simulator]:
    async with Simulator(vms=12, seed=7, dialect=dialect, disk_size=2**20) as running:
        yield running


@pytest.fixture
async def xo(simulator: Simulator) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(simulator.url, token=simulator.token) as client:
        yield client


async def machine(xo: aioxo.Client, state: str) -> aioxo.Record:
    return (await xo.vms.list(filter=F.power_state == state, limit=1))[0]


# Collections


async def test_a_list_a_stream_and_hrefs_agree(xo: aioxo.Client) -> None:
    listed = await xo.vms.list()
    assert len(listed) == 12
    assert all(vm["type"] == "VM" for vm in listed)
    assert all(vm["href"] == f"/rest/v0/vms/{vm['id']}" for vm in listed)
    async with xo.vms.stream() as stream:
        assert [vm async for vm in stream] == listed
        assert stream.delivered == 12
    assert await xo.vms.hrefs() == [vm["href"] for vm in listed]


async def test_fields_choose_deep_ones_too(xo: aioxo.Client) -> None:
    record = (await xo.vms.list(fields=["id", "CPUs.number"], limit=1))[0]
    assert set(record) == {"id", "CPUs", "href"}
    assert set(record["CPUs"]) == {"number"}


async def test_the_server_filters_as_the_client_does(xo: aioxo.Client) -> None:
    wanted = (F.power_state == "Running") & (F.CPUs.number >= 2)
    everything = await xo.vms.list()
    found = await xo.vms.list(filter=wanted)
    assert found == [vm for vm in everything if wanted.matches(vm)]
    assert 0 < len(found) < len(everything)


async def test_limits(xo: aioxo.Client) -> None:
    assert len(await xo.vms.list(limit=3)) == 3
    assert await xo.vms.list(limit=0) == []
    with pytest.raises(aioxo.ConfigurationError, match="negative"):
        await xo.vms.list(limit=-1)


async def test_one_record(xo: aioxo.Client) -> None:
    listed = (await xo.vms.list(limit=1))[0]
    record = await xo.vms.get(listed["id"])
    assert record == {name: value for name, value in listed.items() if name != "href"}
    assert await xo.vms.get(record["_xapiRef"]) == record


async def test_an_id_of_another_collection_is_not_found(xo: aioxo.Client) -> None:
    host = (await xo.hosts.list(fields=["id"], limit=1))[0]["id"]
    with pytest.raises(aioxo.NotFound) as caught:
        await xo.vms.get(host)
    assert caught.value.status == 404


async def test_every_collection_of_objects_is_listed(xo: aioxo.Client) -> None:
    names = [
        "hosts",
        "pools",
        "srs",
        "networks",
        "vdis",
        "vbds",
        "vifs",
        "pifs",
        "pbds",
        "vm_templates",
        "vm_snapshots",
    ]
    for name in names:
        records = await getattr(xo, name).list(limit=2)
        assert records, name
        assert {record["id"] for record in records} <= (await xo.objects()).keys()


async def test_a_request_by_hand(xo: aioxo.Client) -> None:
    hrefs = await xo.request("GET", "/vms", params={"limit": 2})
    assert len(hrefs) == 2
    assert (await xo.request("get", hrefs[0]))["type"] == "VM"
    with pytest.raises(aioxo.MethodNotFound):
        await xo.request("GET", "/nonsense/at/all")


# Actions and tasks


async def test_an_action_is_a_task_that_can_be_awaited(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Halted")
    task = await xo.vms.start(vm["id"])
    assert await task.wait(timeout=10) is None
    assert task.status == "success"
    assert (await xo.vms.get(vm["id"]))["power_state"] == "Running"


async def test_a_failed_action_says_why(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Running")
    task = await xo.vms.action(vm["id"], "start")
    with pytest.raises(aioxo.TaskFailed) as caught:
        await task.wait(timeout=10)
    assert caught.value.code == "VM_BAD_POWER_STATE"
    assert caught.value.params[1:] == ("halted", "running")
    assert caught.value.task["status"] == "failure"


async def test_a_synchronous_action(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Running")
    await xo.vms.action(vm["id"], "hard_shutdown", sync=True)
    assert (await xo.vms.get(vm["id"]))["power_state"] == "Halted"
    with pytest.raises(aioxo.ApiError) as caught:
        await xo.vms.action(vm["id"], "hard_shutdown", sync=True)
    assert isinstance(caught.value, aioxo.XapiError)
    assert caught.value.code == "VM_BAD_POWER_STATE"


async def test_a_snapshot_gives_its_id(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Halted")
    result = await (await xo.vms.snapshot(vm["id"], name_label="before")).wait(timeout=10)
    snapshot = result["id"] if isinstance(result, dict) else result
    assert (await xo.vm_snapshots.get(snapshot))["name_label"] == "before"


async def test_an_action_on_nothing(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.NotFound):
        await xo.vms.start("nope")
    vm = await machine(xo, "Halted")
    with pytest.raises(aioxo.MethodNotFound):
        await xo.vms.action(vm["id"], "fly")


# JSON-RPC


async def test_methods_describe_themselves(xo: aioxo.Client) -> None:
    methods = await xo.methods()
    assert len(methods) > 300
    assert methods["vm.start"].permission == "user"
    assert methods["session.signIn"].permission == "none"
    assert methods["token.delete"].permission == "admin"
    assert methods["vm.start"].params["id"]["type"] == "string"
    assert sorted(methods) == sorted(await xo.call("system.listMethods"))


async def test_a_call_changes_an_object(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Halted")
    assert await xo.call("vm.set", id=vm["id"], name_label="renamed") is True
    assert (await xo.objects(filter=f"id:{vm['id']}"))[vm["id"]]["name_label"] == "renamed"


async def test_objects_are_filtered_in_three_ways(xo: aioxo.Client) -> None:
    everything = await xo.objects()
    running = {object_id for object_id, record in everything.items() if record.get("power_state") == "Running"}
    machines = {object_id for object_id in running if everything[object_id]["type"] == "VM"}
    assert (await xo.objects(filter="type:/^VM$/ power_state:Running")).keys() == machines
    assert (await xo.objects(filter=(F.type == "VM") & (F.power_state == "Running"))).keys() == machines
    assert (await xo.objects(filter={"type": "VM", "power_state": "Running"})).keys() == machines
    assert len(await xo.objects(limit=5)) == 5


async def test_refused_calls(xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.MethodNotFound) as unknown:
        await xo.call("no.such")
    assert unknown.value.code == -32601
    with pytest.raises(aioxo.InvalidParameters) as refused:
        await xo.call("vm.start", id=5, speed="fast")
    assert refused.value.data["errors"]
    with pytest.raises(aioxo.NotFound):
        await xo.call("vm.start", id="nope")
    vm = await machine(xo, "Running")
    with pytest.raises(aioxo.IncorrectState) as state:
        await xo.call("vm.start", id=vm["id"])
    assert state.value.code == 13


# Live


@asynccontextmanager
async def limit() -> AsyncIterator[None]:
    async with asyncio.timeout(10):
        yield


async def test_changes_follow_what_happens(xo: aioxo.Client, simulator: Simulator) -> None:
    vm = await machine(xo, "Halted")
    async with limit(), xo.changes("VM") as changes:
        await xo.call("vm.set", id=vm["id"], name_description="seen")
        async for change in changes:
            assert isinstance(change, aioxo.Change)
            assert (change.kind, change.type) == ("update", "VM")
            if change.id == vm["id"]:
                assert change.object is not None
                assert change.object["name_description"] == "seen"
                break
        simulator.store.remove(vm["id"])
        assert await changes.receive() == aioxo.Change("exit", "VM", vm["id"], None)


async def test_a_filter_makes_objects_enter_and_leave(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Halted")
    async with limit(), xo.changes("VM", filter=F.name_label == "chosen", overflow="drop_oldest") as changes:
        kinds = []
        for name in ("chosen", "other"):
            await xo.call("vm.set", id=vm["id"], name_label=name)
            change = await changes.receive()
            assert isinstance(change, aioxo.Change)
            kinds.append((change.kind, change.object["name_label"] if change.object else None))
    assert kinds == [("enter", "chosen"), ("exit", "other")]


async def test_a_subscriber_may_call_inside_its_loop(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Halted")
    seen: list[Any] = []
    async with limit(), xo.changes("VM", overflow="drop_oldest") as changes:
        await xo.call("vm.set", id=vm["id"], name_label="0")
        async for change in changes:
            assert isinstance(change, aioxo.Change)
            assert change.object is not None
            seen.append(change.object["name_label"])
            if len(seen) == 5:
                break
            await xo.call("vm.set", id=vm["id"], name_label=str(len(seen)))
    assert seen == ["0", "1", "2", "3", "4"]


async def test_a_lost_connection_is_a_gap_and_the_loop_goes_on(xo: aioxo.Client, simulator: Simulator) -> None:
    vm = await machine(xo, "Halted")
    async with limit(), xo.changes("VM") as changes:
        await simulator.drop_connections()
        assert await changes.receive() == aioxo.Gap("disconnected")
        await xo.call("vm.set", id=vm["id"], name_label="after the cut")
        change = await changes.receive()
        assert isinstance(change, aioxo.Change)
        assert change.object is not None
        assert change.object["name_label"] == "after the cut"
    assert xo.connection.connections == 2


async def test_raw_notifications(xo: aioxo.Client) -> None:
    vm = await machine(xo, "Halted")
    async with limit(), xo.notifications() as notifications:
        await xo.call("vm.set", id=vm["id"], name_label="raw")
        notification = await notifications.receive()
    assert isinstance(notification, aioxo.Notification)
    assert notification.method == "all"
    assert notification.params["type"] == "enter"
    assert notification.params["items"][vm["id"]]["name_label"] == "raw"


# Signing in


async def test_a_password_makes_a_token_that_is_gone_afterwards(simulator: Simulator, xo: aioxo.Client) -> None:
    before = {token["id"] for token in await xo.call("user.getAuthenticationTokens")}
    async with aioxo.connect(simulator.url, username=simulator.username, password=simulator.password) as other:
        assert await other.vms.list(limit=1)
        during = {token["id"] for token in await xo.call("user.getAuthenticationTokens")}
        assert len(during - before) == 1
        assert (during - before).pop() not in repr(other)
    assert {token["id"] for token in await xo.call("user.getAuthenticationTokens")} == before


@pytest.mark.parametrize("secret", [{"token": "wrong"}, {"username": "admin@admin.net", "password": "wrong"}])
async def test_wrong_credentials(simulator: Simulator, secret: dict[str, Any]) -> None:
    with pytest.raises(aioxo.AuthenticationError) as caught:
        async with aioxo.connect(simulator.url, **secret):
            pytest.fail("signed in")
    assert "wrong" not in str(caught.value)
