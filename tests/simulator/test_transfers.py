"""Exports and imports: bytes that come back as they went, the framing, and everything that can go wrong."""

from __future__ import annotations

import asyncio
import gzip
import io
import random
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from aioxo.simulator import vhd
from aioxo.simulator.disks import StoredDisk
from aioxo.simulator.rest import images

from .consistency import broken_links
from .picks import bytes_of, default_sr
from .wire import Answer, ask, connect, get, head, read_answer, read_chunk, read_head, send

if TYPE_CHECKING:
    import aiohttp

    from aioxo.simulator import Simulator

SIZE = 3 * 2**20


def content(length: int = SIZE) -> bytes:
    return random.Random(4).randbytes(length)


def free_vdi(sim: Simulator) -> dict[str, Any]:
    return next(vdi for vdi in sim.store.of_type("VDI") if not vdi["$VBDs"])


def as_vhd(data: bytes) -> bytes:
    with StoredDisk(len(data)) as disk:
        disk.write(0, data)
        return b"".join(vhd.encode(disk))


async def upload(sim: Simulator, target: str, body: bytes, **options: Any) -> Answer:
    headers = {"Content-Type": "application/octet-stream"} | options.pop("headers", {})
    method = options.pop("method", "POST")
    return await ask(sim, method, f"/rest/v0{target}", token=sim.token, headers=headers, body=body, **options)


# Out


async def test_a_raw_export_is_the_disk(sim: Simulator) -> None:
    vdi = free_vdi(sim)
    answer = await get(sim, f"/vdis/{vdi['id']}.raw")
    assert answer.headers["content-disposition"] == f"attachment; filename={vdi['id']}.raw"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    assert len(answer.chunks[0]) == 5
    assert answer.body == bytes_of(sim, vdi["id"])
    ranged = await get(sim, f"/vdis/{vdi['id']}.raw", Range="bytes=0-9")
    assert (ranged.status, ranged.body) == (200, answer.body)


async def test_a_vhd_export_decodes_to_the_disk(sim: Simulator) -> None:
    vdi = free_vdi(sim)
    answer = await get(sim, f"/vdis/{vdi['id']}.vhd")
    assert answer.chunks[0] == b"conec"
    decoder = vhd.Decoder(StoredDisk)
    decoder.feed(answer.body)
    with decoder.finish() as disk:
        assert disk.read(0, disk.size) == bytes_of(sim, vdi["id"])


async def test_a_snapshot_of_a_disk_is_exported(sim: Simulator) -> None:
    snapshot = sim.store.of_type("VDI-snapshot")[0]
    assert (await get(sim, f"/vdi-snapshots/{snapshot['id']}.raw")).body == bytes_of(sim, snapshot["id"])
    assert (await get(sim, f"/vdis/{snapshot['id']}.raw")).status == 404


async def test_an_export_is_gzipped_when_the_client_lets_it(sim: Simulator) -> None:
    vdi = free_vdi(sim)
    answer = await get(sim, f"/vdis/{vdi['id']}.raw", **{"Accept-Encoding": "gzip, deflate"})
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == bytes_of(sim, vdi["id"])
    answer = await get(sim, f"/vdis/{vdi['id']}.raw", **{"Accept-Encoding": "deflate"})
    assert zlib.decompress(answer.body) == bytes_of(sim, vdi["id"])


async def test_head_runs_the_export_and_sends_nothing(sim: Simulator) -> None:
    answer = await ask(sim, "HEAD", f"/rest/v0/vdis/{free_vdi(sim)['id']}.raw", token=sim.token)
    assert (answer.status, answer.body) == (200, b"")
    assert "content-disposition" in answer.headers


async def test_an_export_is_of_one_moment(sim: Simulator) -> None:
    vdi = free_vdi(sim)
    before = bytes_of(sim, vdi["id"])
    sim.faults.export_fault, sim.faults.export_fault_at = "stall", 1000
    reader, writer = await connect(sim)
    writer.write(head("GET", f"/rest/v0/vdis/{vdi['id']}.raw", {"Cookie": f"token={sim.token}"}))
    await read_head(reader)
    assert await read_chunk(reader) + await read_chunk(reader) == before[:1000]
    writer.close()
    sim.faults.export_fault = None
    sim.disks[vdi["id"]].write(0, b"new")
    assert (await get(sim, f"/vdis/{vdi['id']}.raw")).body[:3] == b"new"


async def test_twelve_disks_are_exported_at_once_and_the_next_waits(sim: Simulator) -> None:
    sim.faults.export_fault, sim.faults.export_fault_at = "stall", 5
    path = f"/rest/v0/vdis/{free_vdi(sim)['id']}.raw"
    writers = []
    for _ in range(images.DISK_EXPORTS):
        reader, writer = await connect(sim)
        writer.write(head("GET", path, {"Cookie": f"token={sim.token}"}))
        assert (await read_head(reader)).status == 200
        writers.append(writer)
    reader, last = await connect(sim)
    last.write(head("GET", path, {"Cookie": f"token={sim.token}"}))
    waiting = asyncio.create_task(read_head(reader))
    for _ in range(3):
        await ask(sim, "GET", "/rest/v0/ping")
    assert not waiting.done()
    writers[0].close()
    assert (await waiting).status == 200
    for writer in [*writers, last]:
        writer.close()


async def test_faults_of_exports(sim: Simulator) -> None:
    vdi = free_vdi(sim)
    whole = bytes_of(sim, vdi["id"])
    sim.faults.export_fault_at = 300_000
    sim.faults.export_fault = "short"
    answer = await get(sim, f"/vdis/{vdi['id']}.raw")
    assert (answer.whole, answer.body) == (True, whole[:300_000])
    sim.faults.export_fault = "reset"
    answer = await get(sim, f"/vdis/{vdi['id']}.raw")
    assert not answer.whole
    assert whole.startswith(answer.body)
    sim.faults.export_fault_at = len(whole) + 1
    assert (await get(sim, f"/vdis/{vdi['id']}.raw")).body == whole
    sim.faults.export_fault = "stall"
    sim.faults.export_fault_at = 0
    reader, writer = await connect(sim)
    writer.write(head("GET", f"/rest/v0/vdis/{vdi['id']}.raw", {"Cookie": f"token={sim.token}"}))
    await read_head(reader)
    more = asyncio.create_task(reader.read(1))
    for _ in range(3):
        await ask(sim, "GET", "/rest/v0/ping")
    assert not more.done()
    writer.close()
    await more


@pytest.mark.parametrize("compress", [None, "gzip", "false", "true"])
async def test_a_vm_is_exported_as_an_archive(sim: Simulator, compress: str | None) -> None:
    vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Halted")
    query = "" if compress is None else f"?compress={compress}"
    answer = await get(sim, f"/vms/{vm['id']}.xva{query}")
    assert answer.headers["content-disposition"] == f"attachment; filename={vm['id']}.xva"
    assert "content-encoding" not in answer.headers
    data = gzip.decompress(answer.body) if compress in {"gzip", "true"} else answer.body
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        assert names[0] == "ova.xml"
        description = archive.extractfile("ova.xml")
        assert description is not None
        assert vm["name_label"].encode() in description.read()
    assert any(name.endswith("/00000000") for name in names)


async def test_a_running_vm_is_exported_by_way_of_a_snapshot(sim: Simulator) -> None:
    vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Running")
    sim.faults.export_fault, sim.faults.export_fault_at = "stall", 5
    reader, writer = await connect(sim)
    writer.write(head("GET", f"/rest/v0/vms/{vm['id']}.xva", {"Cookie": f"token={sim.token}"}))
    assert (await read_head(reader)).status == 200
    temporary = [each for each in sim.store.of_type("VM-snapshot") if each["$snapshot_of"] == vm["id"]]
    assert f"[XO Export] {vm['name_label']}" in [each["name_label"] for each in temporary]
    assert broken_links(sim.store.all()) == []
    gone = asyncio.Event()
    sim.store.subscribe(lambda flush: gone.set() if temporary[-1]["id"] in flush.exited else None)
    writer.close()
    await gone.wait()
    assert broken_links(sim.store.all()) == []
    assert set(sim.disks) == {*sim.store.ids("VDI"), *sim.store.ids("VDI-snapshot")}
    sim.faults.export_fault = None
    answer = await get(sim, f"/vms/{vm['id']}.xva")
    assert vm["name_label"].encode() in answer.body[:100_000]
    assert b"[XO Export]" not in answer.body[:100_000]


async def test_archives_the_simulator_cannot_make(sim: Simulator) -> None:
    vm = sim.store.ids("VM")[0]
    assert (await get(sim, f"/vms/{vm}.ova")).status == 501
    assert (await get(sim, f"/vms/{vm}.xva?compress=lzma")).status == 422
    answer = await get(sim, f"/vms/{vm}.xva?compress=zstd")
    if images.zstd_compressor() is None:
        assert (answer.status, answer.json()) == (501, {"error": "not implemented"})
    else:
        assert answer.body[:4] == b"\x28\xb5\x2f\xfd"


# In


async def test_a_raw_import_comes_back(sim: Simulator) -> None:
    sr, data = default_sr(sim), content()
    path = f"/srs/{sr}/vdis?raw=true&name_label=caf%C3%A9&name_description=d"
    answer = await upload(sim, path, data)
    vdi = answer.json()["id"]
    assert (answer.status, answer.headers["location"]) == (201, f"/rest/v0/vdis/{vdi}")
    record = sim.store.current(vdi)
    assert (record["name_label"], record["name_description"], record["size"]) == ("café", "d", SIZE)
    assert record["usage"] == record["chainPhysicalUsage"] == SIZE
    assert record["other_config"] == {}
    assert (await get(sim, f"/vdis/{vdi}.raw")).body == data
    assert broken_links(sim.store.all()) == []


async def test_a_vhd_import_comes_back(sim: Simulator) -> None:
    data = content()
    answer = await upload(sim, f"/srs/{default_sr(sim)}/vdis", as_vhd(data))
    vdi = answer.json()["id"]
    assert bytes_of(sim, vdi) == data
    assert sim.store.current(vdi)["name_label"].startswith("[XO] Imported disk - 20")
    assert broken_links(sim.store.all()) == []


async def test_a_size_is_rounded_up_to_sectors(sim: Simulator) -> None:
    for length, size in ((0, 512), (1001, 1024)):
        data = content(length)
        vdi = (await upload(sim, f"/srs/{default_sr(sim)}/vdis?raw=true", data)).json()["id"]
        assert sim.store.current(vdi)["size"] == size
        assert bytes_of(sim, vdi) == data + bytes(size - length)


async def test_a_disk_is_there_while_it_is_imported_and_gone_when_the_client_is(sim: Simulator) -> None:
    sr, before = default_sr(sim), set(sim.store.ids("VDI"))
    entered: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    left = asyncio.Event()

    def listener(flush: Any) -> None:
        for item in flush.entered.values():
            if item["type"] == "VDI" and item["id"] not in before:
                entered.put_nowait(item)
        if any(item["type"] == "VDI" for item in flush.exited.values()):
            left.set()

    sim.store.subscribe(listener)
    reader, writer = await connect(sim)
    headers = {"Cookie": f"token={sim.token}", "Content-Length": "1000000"}
    writer.write(head("POST", f"/rest/v0/srs/{sr}/vdis?raw=true&name_label=short", headers) + bytes(5000))
    vdi = await entered.get()
    assert (vdi["name_label"], vdi["other_config"]) == ("short", {"xo:import:length": "1000000"})
    writer.close()
    await left.wait()
    assert set(sim.store.ids("VDI")) == before
    assert broken_links(sim.store.all()) == []
    assert set(sim.disks) == {*sim.store.ids("VDI"), *sim.store.ids("VDI-snapshot")}
    del reader


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda image: image[:-512], "bytes came instead of"),
        (lambda image: image[:100] + b"x" + image[101:], "invalid footer checksum"),
        (lambda image: image[:600] + b"x" + image[601:], "invalid header checksum"),
        (lambda image: image[:-1] + b"x", "does not end with its footer"),
    ],
)
async def test_a_broken_vhd_leaves_nothing_behind(sim: Simulator, damage: Any, words: str) -> None:
    before = set(sim.store.ids("VDI"))
    image = as_vhd(content())
    broken = damage(image)
    length = {"Content-Length": str(len(broken))}
    answer = await upload(sim, f"/srs/{default_sr(sim)}/vdis", broken, headers=length)
    assert answer.status == 500
    assert words in answer.json()["error"] or "does not end" in answer.json()["error"]
    assert set(sim.store.ids("VDI")) == before
    assert broken_links(sim.store.all()) == []


async def test_the_content_of_a_disk_is_replaced(sim: Simulator) -> None:
    vdi = free_vdi(sim)["id"]
    size = sim.disks[vdi].size
    data = content(size)
    assert (await upload(sim, f"/vdis/{vdi}.raw", data, method="PUT")).status == 204
    assert bytes_of(sim, vdi) == data
    other = bytes(size // 2) + data[: size // 2]
    assert (await upload(sim, f"/vdis/{vdi}.vhd", as_vhd(other), method="PUT")).status == 204
    assert bytes_of(sim, vdi) == other
    assert (await upload(sim, f"/vdis/{vdi}.raw", data + b"more", method="PUT")).status == 204
    assert bytes_of(sim, vdi) == data
    wrong = await upload(sim, f"/vdis/{vdi}.vhd", as_vhd(content(size * 2)), method="PUT")
    assert wrong.json()["error"] == "VDI_IO_ERROR(Device I/O errors)"
    rubbish = await upload(sim, f"/vdis/{vdi}.vhd", b"x" * 1000, method="PUT")
    assert "checksum" in rubbish.json()["error"]
    assert bytes_of(sim, vdi) == data
    assert (await upload(sim, f"/vdis/{vdi}.qcow2", b"", method="PUT")).status == 422
    assert broken_links(sim.store.all()) == []


async def test_a_disk_in_use_is_not_overwritten(sim: Simulator) -> None:
    vbd = next(vbd for vbd in sim.store.of_type("VBD") if vbd["attached"] and vbd.get("VDI"))
    answer = await upload(sim, f"/vdis/{vbd['VDI']}.raw", content(), method="PUT")
    assert answer.json()["error"].startswith("VDI_IN_USE(")


async def test_continue_is_said_when_it_is_expected(sim: Simulator) -> None:
    reader, writer = await connect(sim)
    headers = {"Cookie": f"token={sim.token}", "Content-Length": "512", "Expect": "100-continue"}
    writer.write(head("POST", f"/rest/v0/srs/{default_sr(sim)}/vdis?raw=true", headers))
    assert (await read_head(reader)).status == 100
    writer.write(bytes(512))
    assert (await read_answer(reader)).status == 201
    writer.close()


async def test_a_form_that_is_too_large_is_told(sim: Simulator) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await upload(sim, f"/srs/{default_sr(sim)}/vdis?raw=true", content(200_000), headers=form)
    assert (answer.status, answer.json()) == (500, {"error": "request entity too large"})


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_vm_goes_out_and_comes_in_again(sim: Simulator, chunked: bool) -> None:
    pool = sim.store.of_type("pool")[0]
    vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Halted")
    archive = (await get(sim, f"/vms/{vm['id']}.xva")).body
    answer = await upload(sim, f"/pools/{pool['id']}/vms", archive, chunked=chunked)
    made = sim.store.current(answer.json()["id"])
    assert (answer.status, answer.headers["location"]) == (201, f"/rest/v0/vms/{made['id']}")
    assert (made["name_label"], made["CPUs"], made["memory"]["size"]) == (
        vm["name_label"],
        vm["CPUs"],
        vm["memory"]["size"],
    )
    assert [len(disk) for disk in disks_of(sim, made)] == [len(disk) for disk in disks_of(sim, vm)]
    assert disks_of(sim, made) == disks_of(sim, vm)
    assert broken_links(sim.store.all()) == []


def disks_of(sim: Simulator, vm: dict[str, Any]) -> list[bytes]:
    vbds = [sim.store.current(vbd) for vbd in vm["$VBDs"]]
    return [bytes_of(sim, vbd["VDI"]) for vbd in vbds if not vbd["is_cd_drive"] and "VDI" in vbd]


async def test_an_archive_that_is_cut_leaves_nothing_behind(sim: Simulator) -> None:
    pool = sim.store.of_type("pool")[0]
    vm = next(vm for vm in sim.store.of_type("VM") if vm["power_state"] == "Halted")
    archive = (await get(sim, f"/vms/{vm['id']}.xva")).body
    objects, disks = set(sim.store.all()), set(sim.disks)
    answer = await upload(sim, f"/pools/{pool['id']}/vms", archive[:-600_000])
    assert answer.status == 500
    assert answer.json()["error"].startswith("IMPORT_ERROR(")
    assert (set(sim.store.all()), set(sim.disks)) == (objects, disks)


async def test_a_vm_needs_somewhere_to_go(sim: Simulator) -> None:
    pool = sim.store.of_type("pool")[0]
    assert (await upload(sim, f"/pools/{pool['id']}/vms?sr=nope", b"")).status == 404
    sim.store.put({name: value for name, value in pool.items() if name != "default_SR"})
    answer = await upload(sim, f"/pools/{pool['id']}/vms", b"")
    assert answer.json() == {"error": "incorrect state", "data": {"object": pool["id"], "property": "default_SR"}}
    assert answer.status == 409


async def test_many_transfers_at_once(sim: Simulator, http: aiohttp.ClientSession) -> None:
    sr, data = default_sr(sim), content(900 * 1024)

    async def round_trip(number: int) -> None:
        path = f"/rest/v0/srs/{sr}/vdis?raw=true&name_label=disk{number}"
        async with http.post(path, data=data, headers={"Content-Type": "application/octet-stream"}) as answer:
            vdi = (await answer.json())["id"]
        async with http.get(f"/rest/v0/vdis/{vdi}.raw") as answer:
            assert await answer.read() == data

    await asyncio.gather(*(round_trip(number) for number in range(8)))
    assert (await send(sim, "DELETE", f"/vdis/{free_vdi(sim)['id']}")).status == 204
    assert broken_links(sim.store.all()) == []
