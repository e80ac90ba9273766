"""Lists of everything: their contents, and the shapes they come in."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from aioxo.simulator import Simulator
from aioxo.simulator.rest.listing import picker

from .picks import running
from .wire import ask, get, send

if TYPE_CHECKING:
    import aiohttp


def hrefs(collection: str, records: list[dict[str, Any]]) -> list[str]:
    return [f"/rest/v0/{collection}/{record['id']}" for record in records]


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


async def test_a_client_that_leaves_in_the_middle_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async with Simulator(vms=2000, disk_size=2**20) as sim:
        before = len(asyncio.all_tasks())
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.url.rpartition(":")[2]))
        cookie = f"Cookie: authenticationToken={sim.token}"
        writer.write(f"GET /rest/v0/vms?fields=*&ndjson=true HTTP/1.1\r\nHost: x\r\n{cookie}\r\n\r\n".encode())
        await reader.readuntil(b"name_label")
        assert len(asyncio.all_tasks()) > before
        writer.transport.abort()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - the end of a task of the server sets no event here
                await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
