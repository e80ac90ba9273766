"""Real disk images through the whole path, looked at by the tools that know them.

An ext4 file system with known files goes in as raw and as a VHD that qemu-img made, comes out in either format, and has
to be the same disk for qemu-img, for e2fsck and for debugfs, which reads a file out of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

import aioxo
from aioxo.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
MIB = 2**20


def program(name: str, package: str) -> str:
    path = shutil.which(name, path=SEARCH)
    if path is None:
        pytest.skip(f"{name} is not installed (package {package})")
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file system of 48 MiB with a text and 3 MiB of noise in it."""
    mkfs = program("mkfs.ext4", "e2fsprogs")
    folder = tmp_path_factory.mktemp("ext4")
    files = folder / "files"
    (files / "etc").mkdir(parents=True)
    (files / "etc" / "motd").write_text("straight from the disk\n")
    (files / "noise.bin").write_bytes(hashlib.shake_256(b"aioxo").digest(3 * MIB))
    image = folder / "ext4.raw"
    run(mkfs, "-q", "-F", "-d", files, image, "48M")
    return image


@pytest.fixture(scope="module")
def vhd(ext4: Path) -> Path:
    image = ext4.with_suffix(".vhd")
    # Without force_size qemu-img rounds the size up to what cylinders can say.
    run(
        program("qemu-img", "qemu-utils"),
        *("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on"),
        *(ext4, image),
    )
    return image


@pytest.fixture(params=["2026", "2023"])
async def xo(request: pytest.FixtureRequest) -> AsyncIterator[aioxo.Client]:
    async with (
        Simulator(vms=4, dialect=request.param) as simulator,
        aioxo.connect(simulator.url, token=simulator.token) as client,
    ):
        yield client


async def user_sr(xo: aioxo.Client) -> str:
    return str((await xo.srs.list(filter="content_type:user", fields=["id"], limit=1))[0]["id"])


async def test_a_raw_image_comes_back_byte_for_byte(xo: aioxo.Client, ext4: Path, tmp_path: Path) -> None:
    disk = await xo.srs.import_vdi(await user_sr(xo), ext4, name_label="ext4 é ✓", name_description="a description")
    record = await xo.vdis.get(disk)
    assert record["name_label"] == "ext4 é ✓"
    assert record["name_description"] == "a description"
    assert record["size"] == ext4.stat().st_size

    done = await xo.vdis.export(disk, tmp_path / "back.raw", format="raw")
    assert done.sha256 == sha256(ext4) == sha256(tmp_path / "back.raw")
    assert done.bytes == ext4.stat().st_size
    assert done.checks == ("length",)
    assert done.unchecked == ()
    run(program("e2fsck", "e2fsprogs"), "-fn", tmp_path / "back.raw")
    assert run(program("debugfs", "e2fsprogs"), "-R", "cat /etc/motd", tmp_path / "back.raw") == (
        "straight from the disk\n"
    )


async def test_a_raw_image_comes_back_as_a_sound_vhd(xo: aioxo.Client, ext4: Path, tmp_path: Path) -> None:
    qemu_img = program("qemu-img", "qemu-utils")
    disk = await xo.srs.import_vdi(await user_sr(xo), ext4)
    done = await xo.vdis.export(disk, tmp_path / "back.vhd", format="vhd")
    assert done.checks == ("vhd structure",)
    assert run(qemu_img, "compare", "-f", "vpc", "-F", "raw", tmp_path / "back.vhd", ext4).startswith("Images are ide")


async def test_a_vhd_by_qemu_comes_back_as_the_same_disk(
    xo: aioxo.Client, ext4: Path, vhd: Path, tmp_path: Path
) -> None:
    qemu_img = program("qemu-img", "qemu-utils")
    disk = await xo.srs.import_vdi(await user_sr(xo), vhd, name_label="from a VHD")
    assert (await xo.vdis.get(disk))["size"] == ext4.stat().st_size
    raw = await xo.vdis.export(disk, tmp_path / "back.raw", format="raw", sparse=True)
    assert raw.sha256 == sha256(ext4)
    assert (tmp_path / "back.raw").stat().st_blocks * 512 < ext4.stat().st_size
    run("cmp", tmp_path / "back.raw", ext4)
    await xo.vdis.export(disk, tmp_path / "back.vhd", format="vhd")
    assert run(qemu_img, "compare", "-f", "vpc", "-F", "vpc", tmp_path / "back.vhd", vhd).startswith("Images are ide")


@pytest.mark.parametrize("suffix", ["raw", "vhd"])
async def test_contents_of_a_disk_are_replaced(
    xo: aioxo.Client, ext4: Path, vhd: Path, tmp_path: Path, suffix: str
) -> None:
    disk = await xo.srs.import_vdi(await user_sr(xo), bytes(ext4.stat().st_size), name_label="empty")
    await xo.vdis.import_content(disk, {"raw": ext4, "vhd": vhd}[suffix])
    done = await xo.vdis.export(disk, tmp_path / "back.raw", format="raw")
    assert done.sha256 == sha256(ext4)


async def test_a_machine_comes_back_with_the_same_disks(xo: aioxo.Client, tmp_path: Path) -> None:
    machine = (await xo.vms.list(filter="power_state:Halted", limit=1))[0]
    done = await xo.vms.export(machine["id"], tmp_path / "vm.xva")
    assert done.checks == ("tar structure",)
    assert "ova.xml" in run("tar", "-tf", tmp_path / "vm.xva").split("\n")[0]

    pool = (await xo.pools.hrefs())[0].rpartition("/")[2]
    imported = await xo.pools.import_vm(pool, tmp_path / "vm.xva", sr=await user_sr(xo))
    copy = await xo.vms.get(imported)
    assert copy["name_label"] == machine["name_label"]
    assert copy["CPUs"] == machine["CPUs"]
    assert await disk_hashes(xo, copy, tmp_path) == await disk_hashes(xo, machine, tmp_path)


async def disk_hashes(xo: aioxo.Client, machine: aioxo.Record, folder: Path) -> list[str]:
    hashes = []
    for vbd_id in machine["$VBDs"]:
        vbd = await xo.vbds.get(vbd_id)
        if not vbd["is_cd_drive"]:
            done = await xo.vdis.export(vbd["VDI"], folder / "disk.raw", format="raw")
            hashes.append((vbd["position"], done.sha256))
    assert hashes
    return [digest for _, digest in sorted(hashes)]


async def test_gzip_and_plain_exports_hold_the_same(xo: aioxo.Client, tmp_path: Path) -> None:
    machine = (await xo.vms.hrefs(filter="power_state:Halted", limit=1))[0].rpartition("/")[2]
    await xo.vms.export(machine, tmp_path / "plain.xva")
    packed = await xo.vms.export(machine, tmp_path / "packed.xva", compress="gzip")
    assert packed.checks == ("gzip signature",)
    assert packed.unchecked
    run("gzip", "-t", "-S", ".xva", tmp_path / "packed.xva")
    assert run("tar", "-tzf", tmp_path / "packed.xva") == run("tar", "-tf", tmp_path / "plain.xva")


async def test_an_export_flows_into_an_import_without_a_file(xo: aioxo.Client, ext4: Path, tmp_path: Path) -> None:
    sr = await user_sr(xo)
    disk = await xo.srs.import_vdi(sr, ext4)
    async with xo.vdis.open_export(disk, format="raw") as body:
        copy = await xo.srs.import_vdi(sr, body, size=ext4.stat().st_size, format="raw")
    assert (await xo.vdis.export(copy, tmp_path / "copy.raw", format="raw")).sha256 == sha256(ext4)
