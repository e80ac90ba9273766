"""Collections in every format that the client or a user asks for, and single objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo import F, Filter

from .servers import KINDS

if TYPE_CHECKING:
    from .servers import Object, Server

#: Collections of Xen Orchestra's own records, and those that a pool has nothing in.
RECORDS = ("backup-jobs", "backup-logs", "backup-repositories", "schedules", "servers", "users")
EMPTY = (
    "acl-privileges",
    "acl-roles",
    "backup-archives",
    "groups",
    "pcis",
    "pgpus",
    "proxies",
    "restore-logs",
    "tasks",
)

FILTERS = (
    "power_state:Running",
    "power_state:/^running$/",
    "power_state:/^running$/i",
    "!power_state:Running",
    "CPUs:number:2",
    "CPUs:number:>=2",
    "CPUs.number:2",
    "name_label:*-0*",
    "|(power_state:Halted power_state:Suspended)",
    "(power_state:Running CPUs:number:>1)",
    "tags:length:>0",
    "tags?",
    "mainIpAddress?",
    "auto_poweron?",
    "!auto_poweron?",
    "startTime:>0",
    "virtualizationMode:hvm memory:size:>1e9",
    'other:"no such key":x',
    "os_version:name:debian",
    "addresses:10",
    "nothing:!here",
    "id:>0",
    '"running"',
    "running",
    "2",
)


def with_hrefs(objects: dict[str, Object], collection: str) -> dict[str, Object]:
    return {key: item | {"href": f"/rest/v0/{collection}/{key}"} for key, item in objects.items()}


def by_id(records: list[Object]) -> dict[str, Object]:
    return {record["id"]: record for record in records}


# Lists


@pytest.mark.parametrize("collection", KINDS)
async def test_a_list_holds_what_the_pool_has(xo: aioxo.Client, server: Server, collection: str) -> None:
    expected = with_hrefs(server.of_type(KINDS[collection]), collection)
    listed = await xo.collection(collection).list()
    assert expected
    assert by_id(listed) == expected
    assert len(listed) == len(expected)
    assert list(listed[0])[-1] == "href"


@pytest.mark.parametrize("collection", KINDS)
async def test_a_list_a_stream_and_hrefs_agree(xo: aioxo.Client, collection: str) -> None:
    await check_collection(xo, collection)


@pytest.mark.parametrize("collection", RECORDS)
async def test_so_they_do_for_records(modern: Server, collection: str) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        await check_collection(xo, collection)


async def check_collection(xo: aioxo.Client, collection: str) -> None:
    view = xo.collection(collection)
    listed = await view.list()
    assert listed
    async with view.stream() as stream:
        assert [record async for record in stream] == listed
    assert await view.hrefs() == [record["href"] for record in listed]
    assert await xo.request("GET", f"/{collection}", params={"fields": "*"}) == listed
    for record in listed[:3]:
        shown = {name: value for name, value in record.items() if name != "href"}
        assert await view.get(record["id"]) == shown
        assert await xo.request("GET", record["href"]) == shown


@pytest.mark.parametrize("collection", EMPTY)
async def test_nothing_is_an_empty_list(modern: Server, collection: str) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        assert await xo.collection(collection).list() == []
        assert await xo.collection(collection).hrefs() == []
        assert await xo.request("GET", f"/{collection}") == []


async def test_fields_choose(xo: aioxo.Client, server: Server) -> None:
    machines = server.of_type("VM")
    listed = await xo.vms.list(fields=["id", "CPUs.number", "memory.size", "no.such", "power_state"])
    assert len(listed) == len(machines)
    for record in listed:
        vm = machines[record["id"]]
        assert record == {
            "id": vm["id"],
            "CPUs": {"number": vm["CPUs"]["number"]},
            "memory": {"size": vm["memory"]["size"]},
            "power_state": vm["power_state"],
            "href": f"/rest/v0/vms/{vm['id']}",
        }
        assert list(record)[-1] == "href"


@pytest.mark.parametrize("fields", ["", "nonsense", " id"])
async def test_fields_that_are_not_there(xo: aioxo.Client, fields: str) -> None:
    records = await xo.request("GET", "/vms", params={"fields": fields, "limit": 1})
    assert list(records[0]) == ["href"]


async def test_fields_reach_into_lists(xo: aioxo.Client, server: Server) -> None:
    machines = {key: vm for key, vm in server.of_type("VM").items() if vm["$VBDs"]}
    listed = await xo.vms.list(fields=["id", "$VBDs.0"])
    found = {record["id"]: record["$VBDs"] for record in listed if "$VBDs" in record}
    assert found == {key: vm["$VBDs"][:1] for key, vm in machines.items()}


# Filters and limits


@pytest.mark.parametrize("text", FILTERS)
async def test_the_server_filters_as_the_client_does(xo: aioxo.Client, server: Server, text: str) -> None:
    wanted = Filter.parse(text)
    expected = {key for key, vm in server.of_type("VM").items() if wanted.matches(vm)}
    assert {vm["id"] for vm in await xo.vms.list(filter=text, fields=["id"])} == expected


@pytest.mark.parametrize(
    "wanted",
    [
        F.power_state == "Running",
        F.memory.size >= 2**31,
        (F.power_state == "Halted") | (F.CPUs.number > 2),
        ~F.name_label.matches("^web"),
        F.tags.contains("prod"),
    ],
    ids=str,
)
async def test_filters_built_in_python_mean_the_same_there(xo: aioxo.Client, server: Server, wanted: Filter) -> None:
    expected = {key for key, vm in server.of_type("VM").items() if wanted.matches(vm)}
    assert {vm["id"] for vm in await xo.vms.list(filter=wanted, fields=["id"])} == expected


@pytest.mark.parametrize("limit", [0, 1, 5, 1000])
async def test_a_limit_counts_what_matches(xo: aioxo.Client, server: Server, limit: int) -> None:
    halted = [vm for vm in server.of_type("VM").values() if vm["power_state"] == "Halted"]
    listed = await xo.vms.list(filter="power_state:Halted", limit=limit)
    assert len(listed) == min(limit, len(halted))
    assert len(await xo.vms.hrefs(limit=limit)) == min(limit, len(server.of_type("VM")))


@pytest.mark.parametrize("limit", ["-1", "1.5"])
async def test_an_odd_limit_is_none(xo: aioxo.Client, server: Server, limit: str) -> None:
    assert len(await xo.request("GET", "/vms", params={"limit": limit})) == len(server.of_type("VM"))


# Formats


async def test_json_on_the_wire(server: Server) -> None:
    reply = await server.raw("GET", "/vms", token=server.token)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("application/json")
    hrefs = [f"/rest/v0/vms/{key}" for key in server.of_type("VM")]
    assert reply.json() == hrefs


async def test_ndjson_on_the_wire(server: Server) -> None:
    reply = await server.raw("GET", "/vms?ndjson=true&fields=id", token=server.token)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert "Content-Length" not in reply.headers
    assert reply.body.endswith(b"\n")
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert lines == [{"id": key, "href": f"/rest/v0/vms/{key}"} for key in server.of_type("VM")]


async def test_ndjson_of_hrefs_is_strings(server: Server) -> None:
    reply = await server.raw("GET", "/vms?ndjson=true&limit=1", token=server.token)
    assert json.loads(reply.body) == f"/rest/v0/vms/{next(iter(server.of_type('VM')))}"


async def test_ndjson_of_nothing_is_nothing(server: Server) -> None:
    reply = await server.raw("GET", "/vms?ndjson=true&limit=0", token=server.token)
    assert (reply.status, reply.body) == (200, b"")


async def test_markdown(modern: Server) -> None:
    reply = await modern.raw("GET", "/vms?markdown=true&fields=id,CPUs.number&limit=1", token=modern.token)
    key, vm = next(iter(modern.of_type("VM").items()))
    assert reply.headers["Content-Type"] == "text/markdown; charset=utf-8"
    number = json.dumps({"number": vm["CPUs"]["number"]}, separators=(",", ":"))
    assert reply.body.decode() == f"| id | CPUs |\n| --- | --- |\n| {key} | {number} |"
    nothing = await modern.raw("GET", "/vms?markdown=true&limit=0", token=modern.token)
    assert nothing.body == b"No results."


async def test_only_the_word_itself_turns_ndjson_on(modern: Server) -> None:
    reply = await modern.raw("GET", "/vms?ndjson=True&limit=1", token=modern.token)
    assert reply.headers["Content-Type"].startswith("application/json")
    assert len(reply.json()) == 1


async def test_paths_are_not_case_sensitive_and_may_end_in_a_slash(modern: Server) -> None:
    reply = await modern.raw("GET", "/VMs/?limit=1", token=modern.token)
    assert reply.json() == [f"/rest/v0/VMs/{next(iter(modern.of_type('VM')))}"]


# Single objects


@pytest.mark.parametrize("collection", KINDS)
async def test_one_object_by_id_or_reference(xo: aioxo.Client, server: Server, collection: str) -> None:
    for key, item in server.of_type(KINDS[collection]).items():
        assert await xo.collection(collection).get(key) == item
        assert await xo.collection(collection).get(item["_xapiRef"]) == item


async def test_fields_mean_nothing_for_one_object(xo: aioxo.Client, server: Server) -> None:
    key, vm = next(iter(server.of_type("VM").items()))
    assert await xo.request("GET", f"/vms/{key}", params={"fields": "id"}) == vm


# What belongs to an object


async def test_disks_of_a_machine(xo: aioxo.Client, server: Server) -> None:
    for key, vm in server.of_type("VM").items():
        vbds = [server.objects[vbd] for vbd in vm["$VBDs"]]
        expected = [vbd["VDI"] for vbd in vbds if "VDI" in vbd and not vbd["is_cd_drive"]]
        hrefs = await xo.request("GET", f"/vms/{key}/vdis")
        assert hrefs == [f"/rest/v0/vdis/{vdi}" for vdi in expected]


@pytest.mark.parametrize("part", ["alarms", "messages", "tasks"])
@pytest.mark.parametrize("collection", ["vms", "vdis", "srs", "networks", "hosts", "pools", "vbds", "vifs", "pifs"])
async def test_what_belongs_to_an_object(modern: Server, collection: str, part: str) -> None:
    messages = modern.of_type("message").values()
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        for key, item in modern.of_type(KINDS[collection]).items():
            found = await xo.request("GET", f"/{collection}/{key}/{part}")
            about = [each["id"] for each in messages if each["$object"] == item["uuid"]]
            expected = [each for each in about if (modern.objects[each]["name"] == "ALARM") == (part == "alarms")]
            assert found == [f"/rest/v0/{part}/{each}" for each in ([] if part == "tasks" else expected)]


async def test_alarms_are_messages_taken_apart(modern: Server) -> None:
    messages = modern.of_type("message")
    raised = {key: each for key, each in messages.items() if each["name"] == "ALARM"}
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        alarms = by_id(await xo.alarms.list())
        assert alarms.keys() == raised.keys()
        assert {each["id"] for each in await xo.messages.list()} == messages.keys() - raised.keys()
        for key, alarm in alarms.items():
            subject = modern.objects[raised[key]["$object"]]
            assert alarm["time"] == raised[key]["time"] * 1000
            assert alarm["type"] == "message"
            assert "$object" not in alarm
            assert alarm["object"] == {
                "type": subject["type"],
                "uuid": subject["uuid"],
                "href": f"/rest/v0/{subject['type'].lower()}s/{subject['uuid']}",
            }
            ratio = float(raised[key]["body"].split()[1])
            assert alarm["body"]["value"] == f"{ratio * 100:.1f}"
            assert await xo.alarms.get(key) == {name: value for name, value in alarm.items() if name != "href"}


async def test_alarms_are_filtered_as_they_are_shown(modern: Server) -> None:
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        everything = await xo.alarms.list()
        for text in ("body:name:cpu_usage", "time:>1e12", "time:<1e12", "object:type:SR", "body:value:>85"):
            wanted = Filter.parse(text)
            assert await xo.alarms.list(filter=text) == [each for each in everything if wanted.matches(each)]


async def test_a_filter_of_what_belongs_to_an_object(modern: Server) -> None:
    subject = next(each["$object"] for each in modern.of_type("message").values() if each["name"] == "ALARM")
    collection = next(name for name, kind in KINDS.items() if kind == modern.objects[subject]["type"])
    async with aioxo.connect(modern.url, token=modern.token) as xo:
        path = f"/{collection}/{subject}/alarms"
        found: list[Any] = await xo.request("GET", path, params={"filter": "name:ALARM", "fields": "id"})
        assert len(found) == 1
        assert await xo.request("GET", path, params={"filter": "name:nothing", "fields": "id"}) == []
        assert await xo.request("GET", path, params={"filter": "|(qqq zzz)"}) == []
