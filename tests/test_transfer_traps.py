"""Disk images: the traps that a review found, each with the test that would have caught it."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo import downloads
from aioxo.images import TarCheck
from aioxo.simulator import Simulator

from .peers import TOKEN, FakeServer, Line, Request, json_answer, server
from .test_images import xva

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

MIB = 2**20
IMAGE, _ = xva()


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN) as client:
        yield client


async def test_a_cancelled_export_waits_for_the_thread_that_writes(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flood(line: Line, request: Request) -> None:
        await line.start_chunked()
        for _ in range(64):
            await line.chunk(bytes(MIB))

    peer.routes["GET /rest/v0/vdis/d.vhd"] = flood
    writing, release, ended = threading.Event(), threading.Event(), threading.Event()
    write = downloads._FileSink.write

    def slow(sink: Any, batch: list[bytes]) -> None:
        writing.set()
        assert release.wait(10)
        write(sink, batch)
        ended.set()

    monkeypatch.setattr(downloads._FileSink, "write", slow)
    task = asyncio.create_task(xo.vdis.export("d", tmp_path / "d.vhd"))
    await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done, "the file was taken from under the thread"
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[b"more"], [b"", b"x"]])
async def test_a_source_that_goes_on_after_its_size_makes_no_disk(more: list[bytes]) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        for data in more:
            yield data

    async with Simulator(vms=2, disk_size=MIB) as simulator, aioxo.connect(simulator.url, token=simulator.token) as xo:
        storage = (await xo.srs.list(filter="content_type:user", fields=["id"], limit=1))[0]["id"]
        before = await xo.vdis.hrefs()
        with pytest.raises(aioxo.SourceMismatch):
            await xo.srs.import_vdi(storage, source(), size=MIB, format="raw")
        assert await xo.vdis.hrefs() == before


async def test_an_answer_before_the_last_byte_is_no_success(peer: FakeServer, xo: aioxo.Client) -> None:
    async def hasty(line: Line, request: Request) -> None:
        await line.respond(201, b'{"id": "half"}', "application/json")

    hasty.reads_body = True  # type: ignore[attr-defined] # by itself, that is: not at all
    peer.routes["POST /rest/v0/srs/s/vdis"] = hasty
    held = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        await held.wait()
        yield bytes(MIB)

    with pytest.raises(aioxo.ConnectionLost, match="not whole") as caught:
        await xo.srs.import_vdi("s", source(), size=2 * MIB, format="raw")
    assert caught.value.sent


async def test_a_source_is_its_owners_again_after_a_refusal(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["POST /rest/v0/srs/s/vdis"] = json_answer({"error": "no such SR s"}, 404)

    async def source() -> AsyncGenerator[bytes, None]:
        for _ in range(64):
            await asyncio.sleep(0)
            yield bytes(MIB)

    async with aclosing(source()) as pieces:
        with pytest.raises(aioxo.NotFound):
            await xo.srs.import_vdi("s", pieces, size=64 * MIB, format="raw")


@pytest.mark.parametrize("make", ["fifo", "link"])
async def test_what_stands_at_the_destination_stays_what_it_is(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, make: str
) -> None:
    async def image(line: Line, request: Request) -> None:
        await line.respond(200, IMAGE, "application/octet-stream")

    peer.routes["GET /rest/v0/vms/v.xva"] = image
    destination = tmp_path / "there"
    if make == "fifo":
        os.mkfifo(destination)
        with pytest.raises(aioxo.DestinationError, match="device or a pipe"):
            await xo.vms.export("v", destination)
        assert stat.S_ISFIFO(destination.stat().st_mode)
    else:
        (tmp_path / "elsewhere").mkdir()
        destination.symlink_to(tmp_path / "elsewhere" / "image")
        await xo.vms.export("v", destination)
        assert destination.is_symlink()
        assert destination.read_bytes() == IMAGE


@pytest.mark.parametrize("destination", ["/", "", ".", "nul\0byte"])
async def test_destinations_that_are_none(
    xo: aioxo.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(aioxo.DestinationError):
        await xo.vms.export("v", destination)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_flushed_fails_nothing(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def image(line: Line, request: Request) -> None:
        await line.respond(200, IMAGE, "application/octet-stream")

    peer.routes["GET /rest/v0/vms/v.xva"] = image
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    done = await xo.vms.export("v", tmp_path / "v.xva")
    assert done.path == tmp_path / "v.xva"


async def test_a_disk_whose_size_nobody_knows_is_exported(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    async def image(line: Line, request: Request) -> None:
        await line.respond(200, b"bytes", "application/octet-stream")

    peer.routes["GET /rest/v0/vdis/d.raw"] = image
    peer.routes["GET /rest/v0/vdis/d"] = json_answer({"id": "d", "size": None})
    done = await xo.vdis.export("d", tmp_path / "d.raw", format="raw")
    assert (done.checks, len(done.unchecked)) == ((), 1)


async def test_an_ova_is_not_compressed(xo: aioxo.Client, tmp_path: Path) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="compress"):
        await xo.vms.export("v", tmp_path / "v.ova", format="ova", compress="zstd")


async def test_a_bad_id_leaves_no_file_open(xo: aioxo.Client, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(512))
    for call in (xo.srs.import_vdi, xo.vdis.import_content, xo.pools.import_vm):
        with pytest.raises(aioxo.ConfigurationError):
            await call("..", tmp_path / "disk")


@pytest.mark.parametrize("size", [b"-0000001130\0", b"+0000001130\0", b"00_00001130\0", b"0x000001130\0"])
def test_a_tar_header_with_another_kind_of_number(size: bytes) -> None:
    header = bytearray(IMAGE[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    check = TarCheck()
    check.feed(bytes(header) + bytes(4096))
    with pytest.raises(aioxo.CorruptImage, match="not one"):
        check.finish()


def test_an_empty_tar_is_no_machine() -> None:
    check = TarCheck()
    check.feed(bytes(1024))
    with pytest.raises(aioxo.CorruptImage, match="nothing"):
        check.finish()
