"""Exports and imports: the head of the answer, and bytes that come back as they went."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.simulator import vhd
from aioxo.simulator.disks import PatternDisk

from .servers import DISK_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from .servers import Object, Server


def content(size: int = DISK_SIZE) -> bytes:
    with PatternDisk(size, "contract") as disk:
        return disk.read(0, size)


def vhd_of(data: bytes) -> bytes:
    with PatternDisk(len(data), "contract") as disk:
        return b"".join(vhd.encode(disk))


def storage(server: Server) -> str:
    return str(server.first("SR", SR_type="nfs")["id"])


def free_disk(server: Server) -> Object:
    """A disk that no running machine holds."""
    for disk in server.of_type("VDI").values():
        vbds = [server.objects[vbd] for vbd in disk["$VBDs"]]
        if vbds and not any(vbd["attached"] for vbd in vbds) and server.objects[disk["$SR"]]["SR_type"] != "iso":
            return disk
    pytest.fail("every disk is in use")


def used_disk(server: Server) -> Object:
    attached = (vbd for vbd in server.of_type("VBD").values() if vbd["attached"] and not vbd["is_cd_drive"])
    return server.objects[next(attached)["VDI"]]


async def read(stream: Any) -> bytes:
    target = io.BytesIO()
    async with stream as body:
        async for chunk in body:
            target.write(chunk)
    return target.getvalue()


# Out


@pytest.mark.parametrize("format_", ["raw", "vhd"])
async def test_the_head_of_a_disk(server: Server, format_: str) -> None:
    disk = free_disk(server)
    reply = await server.raw("GET", f"/vdis/{disk['id']}.{format_}", token=server.token)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Content-Disposition"] == f"attachment; filename={disk['id']}.{format_}"
    assert "Content-Length" not in reply.headers
    if format_ == "raw":
        assert len(reply.body) == disk["size"]


async def test_a_disk_goes_to_a_file(xo: aioxo.Client, server: Server, tmp_path: Path) -> None:
    disk = free_disk(server)
    raw = await xo.vdis.export(disk["id"], tmp_path / "disk.raw", format="raw")
    assert raw.bytes == (tmp_path / "disk.raw").stat().st_size == disk["size"]
    whole = await xo.vdis.export(disk["id"], tmp_path / "disk.vhd")
    assert whole.bytes == (tmp_path / "disk.vhd").stat().st_size
    assert (tmp_path / "disk.vhd").read_bytes()[-512:].startswith(b"conectix")
    assert any((tmp_path / "disk.raw").read_bytes())


async def test_a_snapshot_of_a_disk(xo: aioxo.Client, server: Server, tmp_path: Path) -> None:
    disk = server.first("VDI-snapshot")
    done = await xo.vdi_snapshots.export(disk["id"], tmp_path / "disk.raw", format="raw")
    assert done.bytes == disk["size"]


@pytest.mark.parametrize("kind", ["VM", "VM-snapshot", "VM-template"])
async def test_a_machine_goes_to_a_file(xo: aioxo.Client, server: Server, kind: str, tmp_path: Path) -> None:
    key = server.first(kind)["id"]
    machines = {"VM": xo.vms, "VM-snapshot": xo.vm_snapshots, "VM-template": xo.vm_templates}[kind]
    done = await machines.export(key, tmp_path / "machine.xva")
    assert done.bytes == (tmp_path / "machine.xva").stat().st_size
    assert (tmp_path / "machine.xva").read_bytes().startswith(b"ova.xml\0")


async def test_the_head_of_a_machine(server: Server) -> None:
    key = server.first("VM", power_state="Halted")["id"]
    reply = await server.raw("GET", f"/vms/{key}.xva", token=server.token)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Content-Disposition"] == f"attachment; filename={key}.xva"


async def test_there_is_nothing_to_export(xo: aioxo.Client, server: Server, tmp_path: Path) -> None:
    snapshot = server.first("VDI-snapshot")["id"]
    for key in ("nope", snapshot):
        with pytest.raises(aioxo.NotFound):
            await read(xo.vdis.open_export(key, format="raw"))
    with pytest.raises(aioxo.NotFound):
        await xo.vms.export("nope", tmp_path / "x.xva")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_", ["qcow2", "vmdk", "xva", "RAW"])
async def test_formats_that_a_disk_has_not(modern: Server, format_: str) -> None:
    reply = await modern.raw("GET", f"/vdis/{free_disk(modern)['id']}.{format_}", token=modern.token)
    assert reply.status == 422
    assert reply.json()["error"]["format"]["value"] == format_
    assert reply.json()["error"]["format"]["message"]


@pytest.mark.parametrize("compress", ["lzma", "1", ""])
async def test_compressions_that_there_are_not(modern: Server, compress: str) -> None:
    key = modern.first("VM", power_state="Halted")["id"]
    reply = await modern.raw("GET", f"/vms/{key}.xva?compress={compress}", token=modern.token)
    assert reply.status == 422
    expected = {"message": "Value does not match any allowed schema", "value": compress}
    assert reply.json()["error"] == {"compress": expected}


# In, and out again


async def test_a_raw_disk_comes_back(xo: aioxo.Client, server: Server) -> None:
    data = content()
    key = await xo.srs.import_vdi(storage(server), data, format="raw", name_label="mine", name_description="a disk")
    disk = await xo.vdis.get(key)
    assert (disk["name_label"], disk["name_description"], disk["size"]) == ("mine", "a disk", len(data))
    assert disk["$SR"] == storage(server)
    assert await read(xo.vdis.open_export(key, format="raw")) == data


async def test_a_vhd_comes_back(xo: aioxo.Client, server: Server) -> None:
    data = vhd_of(content())
    key = await xo.srs.import_vdi(storage(server), data, name_label="mine")
    assert (await xo.vdis.get(key))["size"] == DISK_SIZE
    back = await read(xo.vdis.open_export(key, format="vhd"))
    assert back[-512:].startswith(b"conectix")
    assert len(back) == len(data)


async def test_how_an_import_is_answered(modern: Server) -> None:
    path, headers = f"/srs/{storage(modern)}/vdis?raw=true", {"Content-Type": "application/octet-stream"}
    reply = await modern.raw("POST", path, token=modern.token, headers=headers, body=content())
    assert reply.status == 201
    assert reply.headers["Location"] == f"/rest/v0/vdis/{reply.json()['id']}"


@pytest.mark.parametrize("format_", ["raw", "vhd"])
async def test_the_contents_of_a_disk_are_replaced(xo: aioxo.Client, server: Server, format_: Any) -> None:
    disk = free_disk(server)
    raw = content(disk["size"])
    image = raw if format_ == "raw" else vhd_of(raw)
    await xo.vdis.import_content(disk["id"], image, format=format_)
    back = await read(xo.vdis.open_export(disk["id"], format=format_))
    assert back == raw if format_ == "raw" else len(back) == len(image)


async def test_a_disk_in_use_is_not_replaced(xo: aioxo.Client, server: Server) -> None:
    disk = used_disk(server)
    with pytest.raises(aioxo.XapiError) as caught:
        await xo.vdis.import_content(disk["id"], content(disk["size"]), format="raw")
    assert caught.value.code == "VDI_IN_USE"


async def test_where_nothing_can_be_imported(xo: aioxo.Client, server: Server) -> None:
    with pytest.raises(aioxo.NotFound):
        await xo.srs.import_vdi("nope", content(), format="raw")
    with pytest.raises(aioxo.NotFound):
        await xo.vdis.import_content("nope", content(), format="raw")
    pool = server.first("pool")["id"]
    with pytest.raises(aioxo.NotFound):
        await xo.pools.import_vm("nope", b"ova.xml")
    with pytest.raises(aioxo.NotFound):
        await xo.pools.import_vm(pool, b"ova.xml", sr="nope")


async def test_an_import_flag_without_a_value(modern: Server) -> None:
    reply = await modern.raw("POST", f"/srs/{storage(modern)}/vdis?raw", token=modern.token, body=b"")
    assert reply.status == 422
    assert reply.json()["error"] == {"raw": {"message": "invalid boolean value", "value": ""}}


@pytest.mark.parametrize("named", [True, False])
async def test_a_machine_comes_back(xo: aioxo.Client, server: Server, *, named: bool, tmp_path: Path) -> None:
    vm = server.first("VM", power_state="Halted")
    await xo.vms.export(vm["id"], tmp_path / "machine.xva")
    pool = server.first("pool")["id"]
    made = await xo.pools.import_vm(pool, tmp_path / "machine.xva", sr=storage(server) if named else None)
    assert made not in server.objects
    assert (await xo.vms.get(made))["type"] == "VM"
    await xo.vms.export(made, tmp_path / "again.xva")
    assert (tmp_path / "again.xva").read_bytes().startswith(b"ova.xml\0")


async def test_a_machine_that_is_none(xo: aioxo.Client, server: Server) -> None:
    with pytest.raises(aioxo.XapiError) as caught:
        await xo.pools.import_vm(server.first("pool")["id"], b"no archive" * 100)
    assert caught.value.code == "IMPORT_ERROR"
