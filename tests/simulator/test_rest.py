"""The REST door: people, the server itself, and what is less common."""

from __future__ import annotations

import asyncio

import pytest

from aioxo.simulator import Simulator

from .consistency import broken_links
from .picks import halted, running
from .wire import ask, get, send


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
