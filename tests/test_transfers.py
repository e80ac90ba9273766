"""Disk images: whole or absent, whatever the server, the disk or the caller does in the middle."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aioxo
from aioxo.models import Timeouts

from .cancellation import cancelled_at_every_await
from .peers import TOKEN, FakeServer, Handler, Line, Request, json_answer, server
from .test_images import dynamic_vhd, xva

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

VHD = "GET /rest/v0/vdis/d.vhd"
RAW = "GET /rest/v0/vdis/d.raw"
XVA = "GET /rest/v0/vms/v.xva"


@pytest.fixture
async def peer() -> AsyncIterator[FakeServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def xo(peer: FakeServer) -> AsyncIterator[aioxo.Client]:
    async with aioxo.connect(peer.url, token=TOKEN) as client:
        yield client


def gives(*chunks: bytes, end: str = "clean") -> Handler:
    """Return a route that sends an export and ends it in one of the ways seen."""

    async def answer(line: Line, request: Request) -> None:
        await line.start_chunked()
        for chunk in chunks:
            await line.chunk(chunk)
        if end == "clean":
            await line.chunk(b"")
        elif end == "stall":
            await line.hung_up()
            raise EOFError
        elif end == "reset":
            line.reset()
            raise EOFError
        else:
            raise EOFError

    return answer


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Exports.


async def test_an_export_to_a_file(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    image = dynamic_vhd()
    peer.routes[VHD] = gives(image[:5], image[5:700], image[700:])
    steps: list[aioxo.Progress] = []
    done = await xo.vdis.export("d", tmp_path / "disk.vhd", progress=steps.append)
    assert (tmp_path / "disk.vhd").read_bytes() == image
    assert listing(tmp_path) == ["disk.vhd"]
    assert done.path == tmp_path / "disk.vhd"
    assert (done.bytes, done.sha256) == (len(image), hashlib.sha256(image).hexdigest())
    assert (done.checks, done.unchecked) == (("vhd structure",), ())
    assert [steps[0].stage, steps[-2].stage, steps[-1].stage] == ["waiting", "finishing", "done"]
    assert (steps[-1].bytes, steps[0].bytes) == (len(image), 0)
    assert peer.requests[-1].header("Accept-Encoding") == "identity"


async def test_an_export_larger_than_the_batches(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    data = hashlib.shake_256(b"aioxo").digest(5 * 2**20 + 17)
    peer.routes["GET /rest/v0/vdis/d"] = json_answer({"size": len(data)})
    peer.routes[RAW] = gives(*(data[start : start + 300_000] for start in range(0, len(data), 300_000)))
    done = await xo.vdis.export("d", str(tmp_path / "disk.raw"), format="raw")
    assert (tmp_path / "disk.raw").read_bytes() == data
    assert done.checks == ("length",)


async def test_what_was_there_is_replaced_at_the_end(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    target = tmp_path / "disk.vhd"
    target.write_bytes(b"before")
    peer.routes[VHD] = gives(dynamic_vhd()[:-1])
    with pytest.raises(aioxo.Truncated):
        await xo.vdis.export("d", target)
    assert target.read_bytes() == b"before"
    peer.routes[VHD] = gives(dynamic_vhd())
    await xo.vdis.export("d", target)
    assert target.read_bytes() == dynamic_vhd()
    assert listing(tmp_path) == ["disk.vhd"]


async def test_holes_are_left_where_the_disk_is_zero(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    size = 4 * 2**20
    data = bytes(2**20) + b"x" * 100_000 + bytes(size - 2**20 - 100_000)
    peer.routes["GET /rest/v0/vdis/d"] = json_answer({"size": size})
    peer.routes[RAW] = gives(*(data[start : start + 99_999] for start in range(0, size, 99_999)))
    done = await xo.vdis.export("d", tmp_path / "disk.raw", format="raw", sparse=True)
    assert (tmp_path / "disk.raw").read_bytes() == data
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    if sys.platform == "linux":
        assert (tmp_path / "disk.raw").stat().st_blocks * 512 < size // 2


class Collector:
    def __init__(self) -> None:
        self.data = b""

    async def send(self, item: bytes) -> None:
        self.data += item


async def test_an_export_to_a_stream(peer: FakeServer, xo: aioxo.Client) -> None:
    image, _ = xva()
    peer.routes[XVA] = gives(image[:1000], image[1000:])
    sink = Collector()
    done = await xo.vms.export("v", sink)
    assert sink.data == image
    assert (done.path, done.checks) == (None, ("tar structure",))
    peer.routes[XVA] = gives(image[:-512])
    with pytest.raises(aioxo.Truncated):
        await xo.vms.export("v", Collector())


async def test_a_stream_that_fails_ends_the_export(peer: FakeServer, xo: aioxo.Client) -> None:
    class Broken:
        async def send(self, item: bytes) -> None:
            raise BrokenPipeError

    peer.routes[XVA] = gives(xva()[0])
    with pytest.raises(BrokenPipeError):
        await xo.vms.export("v", Broken())
    assert await xo.call("echo") == {}


async def test_compression_is_asked_of_the_pool(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    peer.routes[XVA] = gives(b"\x28\xb5\x2f\xfd" + b"z" * 100)
    done = await xo.vms.export("v", tmp_path / "vm.xva", compress="zstd")
    assert peer.requests[-1].query == {"compress": ["zstd"]}
    assert done.checks == ("zstd signature",)
    assert len(done.unchecked) == 1


@pytest.mark.parametrize("end", ["clean", "close", "reset"])
@pytest.mark.parametrize("length", [0, 5, 512, 1536, 3000, -512, -1])
async def test_an_export_that_ends_short(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, length: int, end: str
) -> None:
    image = dynamic_vhd()
    short = image[: length if length >= 0 else len(image) + length]
    peer.routes[VHD] = gives(*([short] if short else []), end=end)
    with pytest.raises(aioxo.Truncated) as raised:
        await xo.vdis.export("d", tmp_path / "disk.vhd")
    # A reset overtakes what was sent before it.
    assert raised.value.received == len(short) or end == "reset"
    assert str(raised.value.received) in str(raised.value)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_whole_image_without_its_end_is_not_taken(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, end: str
) -> None:
    peer.routes[VHD] = gives(dynamic_vhd(), end=end)
    with pytest.raises(aioxo.Truncated, match="cut after"):
        await xo.vdis.export("d", tmp_path / "disk.vhd")
    assert listing(tmp_path) == []


async def test_an_export_that_stalls(peer: FakeServer, tmp_path: Path) -> None:
    peer.routes[VHD] = gives(dynamic_vhd()[:1000], end="stall")
    async with aioxo.connect(peer.url, token=TOKEN, timeouts=Timeouts(read=0.2)) as xo:
        with pytest.raises(aioxo.Timeout, match="after 1000 bytes; the server has stalled") as raised:
            await xo.vdis.export("d", tmp_path / "disk.vhd")
    assert raised.value.limit == "read"
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("size", "sent", "kind"),
    [(1000, 999, aioxo.Truncated), (1000, 0, aioxo.Truncated), (1000, 1001, aioxo.CorruptImage)],
)
async def test_a_raw_disk_of_another_length(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, size: int, sent: int, kind: type[aioxo.XOError]
) -> None:
    peer.routes["GET /rest/v0/vdis/d"] = json_answer({"size": size})
    peer.routes[RAW] = gives(*([b"x" * sent] if sent else []))
    with pytest.raises(kind, match=f"{size} bytes"):
        await xo.vdis.export("d", tmp_path / "disk.raw", format="raw")
    assert listing(tmp_path) == []


async def test_a_web_page_is_no_disk(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    peer.routes[VHD] = gives(b"<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(aioxo.CorruptImage, match="does not start with a footer"):
        await xo.vdis.export("d", tmp_path / "disk.vhd")
    assert listing(tmp_path) == []


async def test_a_disk_that_is_not_there(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    peer.routes[VHD] = json_answer({"error": "no such VDI d", "data": {"id": "d", "type": "VDI"}}, 404)
    with pytest.raises(aioxo.NotFound, match="no such VDI d"):
        await xo.vdis.export("d", tmp_path / "disk.vhd")
    assert listing(tmp_path) == []
    with pytest.raises(aioxo.ConfigurationError, match="raw or vhd, not as 'qcow2'"):
        await xo.vdis.export("d", tmp_path / "disk.qcow2", format="qcow2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "match"),
    [
        (lambda folder: folder, "is a directory"),
        (lambda folder: folder / "missing" / "disk.vhd", "No such file"),
        (lambda folder: folder / "file" / "disk.vhd", "Not a directory"),
        (lambda folder: folder / ("n" * 300), "File name too long"),
        (lambda _: Path("/proc/disk.vhd"), "No such file|denied"),
    ],
    ids=["directory", "missing", "file", "long", "proc"],
)
async def test_a_destination_that_cannot_be_written_costs_no_export(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, place: Callable[[Path], Path], match: str
) -> None:
    (tmp_path / "file").write_text("")
    peer.routes[VHD] = gives(dynamic_vhd())
    destination = place(tmp_path)
    with pytest.raises(aioxo.DestinationError, match=match) as raised:
        await xo.vdis.export("d", destination)
    assert raised.value.path == str(destination)
    assert str(destination) in str(raised.value)
    assert listing(tmp_path) == ["file"]
    assert not any(request.path.endswith(".vhd") for request in peer.requests)


FULL = """
import asyncio, resource, signal, sys
import aioxo

async def main() -> None:
    async with aioxo.connect(sys.argv[1], token=sys.argv[2]) as xo:
        await xo.vdis.export("d", sys.argv[3])

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    asyncio.run(main())
except aioxo.DestinationError as error:
    print(f"{error.path}|{error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of resources")
async def test_a_disk_without_room(peer: FakeServer, tmp_path: Path) -> None:
    # A limit on the size of files stands in for a full disk, for nobody but root can make one of those.
    peer.routes[VHD] = gives(dynamic_vhd(b"d" * 3 * 2**20))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", FULL, peer.url, TOKEN, str(tmp_path / "disk.vhd"), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    path, _, sentence = output.decode().strip().partition("|")
    assert path == str(tmp_path / "disk.vhd")
    assert "File too large; nothing was left there" in sentence
    assert listing(tmp_path) == []


async def test_the_stream_of_an_export(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes[VHD] = gives(b"12345", b"678")
    async with xo.vdis.open_export("d") as body:
        assert body.total is None
        assert b"".join([chunk async for chunk in body]) == b"12345678"
        assert body.received == 8
        assert "8" in repr(body)
    peer.routes[VHD] = gives(b"12345", end="close")
    async with xo.vdis.open_export("d") as body:
        with pytest.raises(aioxo.Truncated) as raised:
            async for _ in body:
                pass
        assert raised.value.received == 5


async def test_an_export_cancelled_at_every_await(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    image = dynamic_vhd(b"d" * 2 * 2**20)
    peer.routes[VHD] = gives(*(image[start : start + 2**18] for start in range(0, len(image), 2**18)))
    peer.streams("GET /rest/v0/vdis", {"id": "d"})
    target = tmp_path / "disk.vhd"

    async def operation() -> None:
        await xo.vdis.export("d", target)

    async def check() -> None:
        # Whole, or not there; and nothing beside it.
        assert listing(tmp_path) in ([], ["disk.vhd"])
        if target.exists():
            assert target.read_bytes() == image
            target.unlink()
        assert await xo.vdis.list() == [{"id": "d"}]

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
    assert set(map(type, outcomes)) <= {asyncio.CancelledError, type(None)}
    assert asyncio.CancelledError in map(type, outcomes)


# Imports.


def takes(answer: Handler = json_answer({"id": "new"}, 201)) -> Handler:  # noqa: B008 - holds nothing
    """Return a route that reads the body and answers."""

    async def read(line: Line, request: Request) -> None:
        request.body = await line.reader.readexactly(int(request.header("Content-Length") or 0))
        await answer(line, request)

    read.reads_body = True  # type: ignore[attr-defined]
    return read


SR = "POST /rest/v0/srs/s/vdis"


async def from_iterator(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "bytearray", "iterator"])
async def test_sources(peer: FakeServer, xo: aioxo.Client, tmp_path: Path, kind: str) -> None:
    image = dynamic_vhd(b"d" * 2**21)
    (tmp_path / "disk.vhd").write_bytes(image)
    sources: dict[str, Any] = {
        "path": tmp_path / "disk.vhd",
        "text": str(tmp_path / "disk.vhd"),
        "bytes": image,
        "bytearray": bytearray(image),
        "iterator": from_iterator(image[:3], image[3:1000], b"", image[1000:]),
    }
    peer.routes[SR] = takes()
    steps: list[aioxo.Progress] = []
    size = len(image) if kind == "iterator" else None
    assert await xo.srs.import_vdi("s", sources[kind], size=size, name_label="é b", progress=steps.append) == "new"
    request = peer.requests[-1]
    assert request.body == image
    assert request.header("Content-Length") == str(len(image))
    assert request.header("Transfer-Encoding") is None
    assert request.header("Content-Type") == "application/octet-stream"
    assert request.query == {"name_label": ["é b"]}
    assert (steps[-1].stage, steps[-1].bytes, steps[-1].total) == ("done", len(image), len(image))


async def test_a_raw_source_says_so(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes[SR] = takes()
    assert await xo.srs.import_vdi("s", bytes(1024)) == "new"
    assert peer.requests[-1].query == {"raw": ["true"]}


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [(b'{"id": "new"}', "application/json", "new"), (b"new", None, "new"), (b"new\n", "text/plain", "new")],
)
async def test_dialects_of_the_answer_to_an_import(
    peer: FakeServer, xo: aioxo.Client, body: bytes, kind: str | None, expected: str
) -> None:
    async def answer(line: Line, request: Request) -> None:
        await line.respond(200, body, kind)

    peer.routes["POST /rest/v0/pools/p/vms"] = takes(answer)
    assert await xo.pools.import_vm("p", xva()[0], sr="s") == expected
    assert peer.requests[-1].query == {"sr": ["s"]}


async def test_an_import_whose_answer_names_nothing(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes[SR] = takes(json_answer({}))
    with pytest.raises(aioxo.ProtocolError, match="names no id"):
        await xo.srs.import_vdi("s", bytes(512))


async def test_the_contents_of_a_disk(peer: FakeServer, xo: aioxo.Client) -> None:
    peer.routes["PUT /rest/v0/vdis/d.vhd"] = takes(json_answer(None))
    await xo.vdis.import_content("d", dynamic_vhd())
    assert peer.requests[-1].body == dynamic_vhd()


@pytest.mark.parametrize(
    ("chunks", "size", "read"), [([b"x" * 600], 601, 600), ([b"x" * 600, b"y"], 600, 601), ([], 1, 0), ([b"x"], 0, 1)]
)
async def test_a_source_shorter_or_longer_than_it_said(
    peer: FakeServer, xo: aioxo.Client, chunks: list[bytes], size: int, read: int
) -> None:
    peer.routes[SR] = takes()
    with pytest.raises(aioxo.SourceMismatch, match=f"{size} bytes") as raised:
        await xo.srs.import_vdi("s", from_iterator(*chunks), size=size, format="raw")
    assert (raised.value.declared, raised.value.read) == (size, read)
    assert await xo.call("echo") == {}


async def test_a_source_that_fails(peer: FakeServer, xo: aioxo.Client) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 600
        message = "the tape broke"
        raise OSError(message)

    peer.routes[SR] = takes()
    with pytest.raises(OSError, match="the tape broke"):
        await xo.srs.import_vdi("s", failing(), size=1000, format="raw")


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_refusal_while_sending(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, status: int, end: str
) -> None:
    async def refuse(line: Line, request: Request) -> None:
        await line.reader.readexactly(1000)
        await line.respond(status, b'{"error": "no room here"}')
        if end == "reset":
            await line.reader.read(2**16)
        raise EOFError

    refuse.reads_body = True  # type: ignore[attr-defined]
    peer.routes[SR] = refuse
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(20 * 2**20))
    # The answer may be overtaken by the end of the connection, which is then what is told.
    with pytest.raises((aioxo.ApiError, aioxo.ConnectionLost)):
        await xo.srs.import_vdi("s", path)
    assert await xo.call("echo") == {}


async def test_a_refusal_before_anything_was_read(peer: FakeServer, xo: aioxo.Client) -> None:
    held = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x" * 600
        await held.wait()
        yield b"y"

    async def refuse(line: Line, request: Request) -> None:
        await line.respond(404, b'{"error": "no such SR s"}')
        await line.hung_up()

    refuse.reads_body = True  # type: ignore[attr-defined]
    peer.routes[SR] = refuse
    with pytest.raises(aioxo.NotFound, match="no such SR s"):
        await xo.srs.import_vdi("s", slowly(), size=601, format="raw")


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        (5, {}, "not a int"),
        (from_iterator, {"size": 1}, "not a function"),
        ("https://example.org/disk", {}, "not there yet"),
        (b"x", {"size": 2}, "size=2 was given, but the source has 1 bytes"),
        (b"QFI\xfb" + bytes(600), {}, "qcow2 image.*qemu-img convert"),
        (b"x", {"format": "vmdk"}, "'raw' or 'vhd', not 'vmdk'"),
        ("{tmp}/missing", {}, "No such file"),
        ("{tmp}", {}, "directory"),
        ("{tmp}/disk", {"size": 1}, "size=1 was given"),
    ],
)
async def test_sources_that_cannot_be_used(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, source: Any, options: dict[str, Any], match: str
) -> None:
    (tmp_path / "disk").write_bytes(b"12")
    if isinstance(source, str):
        source = source.replace("{tmp}", str(tmp_path))
    before = len(peer.requests)
    with pytest.raises(aioxo.ConfigurationError, match=match):
        await xo.srs.import_vdi("s", source, **options)
    assert len(peer.requests) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
async def test_a_pipe_is_no_file(peer: FakeServer, xo: aioxo.Client, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both_ends = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(aioxo.ConfigurationError, match="must be a file that can be measured"):
            await xo.srs.import_vdi("s", pipe)
    finally:
        os.close(both_ends)


async def test_an_iterator_needs_its_size(peer: FakeServer, xo: aioxo.Client) -> None:
    with pytest.raises(aioxo.ConfigurationError, match="needs size="):
        await xo.srs.import_vdi("s", from_iterator(b"x"))


@pytest.mark.parametrize("kind", ["path", "iterator"])
async def test_an_import_cancelled_at_every_await(
    peer: FakeServer, xo: aioxo.Client, tmp_path: Path, kind: str
) -> None:
    image = bytes(2**20 + 100)
    path = tmp_path / "disk.raw"
    path.write_bytes(image)
    peer.routes[SR] = takes()
    peer.streams("GET /rest/v0/vdis", {"id": "d"})

    async def operation() -> None:
        source: Any = path if kind == "path" else from_iterator(image[:600], image[600:])
        assert await xo.srs.import_vdi("s", source, size=len(image)) == "new"

    async def check() -> None:
        assert await xo.vdis.list() == [{"id": "d"}]

    outcomes = [outcome async for outcome in cancelled_at_every_await(operation, check)]
    assert set(map(type, outcomes)) == {asyncio.CancelledError}
