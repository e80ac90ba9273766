"""VHD images: qemu-img agrees with both directions, and the decoder takes any cutting and no truncation."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
import subprocess
import tracemalloc
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioxo.simulator import vhd
from aioxo.simulator.disks import PAGE, Disk, PatternDisk, StoredDisk

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def qemu(*arguments: str | Path) -> str:
    done = subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True, timeout=50)
    return done.stdout


def decode(image: bytes, cut: int = 65536) -> Disk:
    decoder = vhd.Decoder(StoredDisk)
    try:
        for at in range(0, len(image), cut):
            decoder.feed(image[at : at + cut])
        return decoder.finish()
    except vhd.VHDError:
        if decoder.disk is not None:
            decoder.disk.close()
        raise


@cache
def small_image() -> bytes:
    """One block of a disk of one page and a bit, the smallest image there is."""
    with StoredDisk(PAGE + 1024) as disk:
        disk.write(700, b"some bytes across a sector's end" * 20)
        disk.write(PAGE + 1000, b"the very end")
        return b"".join(vhd.encode(disk))


def sample_disk(size: int) -> StoredDisk:
    """A disk with empty and full blocks, and data at its very end."""
    disk = PatternDisk(size, "sample")
    disk.write(size - 9, b"the end!!")
    return disk


@needs_qemu
@pytest.mark.parametrize("size", [512, 3 * MIB, 16 * MIB + 512, 64 * MIB])
def test_qemu_img_reads_what_encode_writes(size: int, tmp_path: Path) -> None:
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    with sample_disk(size) as disk:
        raw.write_bytes(disk.read(0, size))
        image.write_bytes(b"".join(vhd.encode(disk)))
        assert image.stat().st_size == vhd.encoded_size(disk)
    assert json.loads(qemu("info", "-f", "vpc", "--output", "json", image))["virtual-size"] == size
    qemu("compare", "-f", "raw", "-F", "vpc", raw, image)
    # qemu-img knows no check for this format and says so with status 63; converting reads each table entry instead.
    qemu("convert", "-f", "vpc", "-O", "raw", image, tmp_path / "back.raw")
    assert (tmp_path / "back.raw").read_bytes() == raw.read_bytes()


@needs_qemu
@pytest.mark.parametrize("size", [3 * MIB, 16 * MIB + 512])
def test_the_decoder_reads_what_qemu_img_writes(size: int, tmp_path: Path) -> None:
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    with sample_disk(size) as disk:
        raw.write_bytes(disk.read(0, size))
    qemu("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", raw, image)
    with decode(image.read_bytes(), 100_000) as back:
        assert back.size == size
        assert back.read(0, size) == raw.read_bytes()


def test_a_round_trip_keeps_bytes_and_holes() -> None:
    with sample_disk(32 * MIB) as disk, decode(b"".join(vhd.encode(disk))) as back:
        assert back.read(0, back.size) == disk.read(0, disk.size)
        assert back.allocated() <= disk.allocated()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 2**22), max_size=12))
def test_any_cutting_of_the_input_gives_the_same_disk(cuts: list[int]) -> None:
    image = small_image()
    places = sorted({0, len(image), *(cut % len(image) for cut in cuts)})
    decoder = vhd.Decoder(StoredDisk, length=len(image))
    for start, end in itertools.pairwise(places):
        decoder.feed(image[start:end])
    with decoder.finish() as disk:
        assert disk.read(696, 8) == b"\0\0\0\0some"
        assert disk.read(PAGE + 1000, 24) == b"the very end" + bytes(12)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_truncation_at_any_byte_is_an_error(data: st.DataObject) -> None:
    image = small_image()
    edges = st.sampled_from([0, 1, 67, 68, 511, 512, 1536, 1540, 2048, 2560, len(image) - 512, len(image) - 1])
    keep = data.draw(st.one_of(edges, st.integers(0, len(image) - 1)))
    with pytest.raises(vhd.VHDError):
        decode(image[:keep])


def test_a_wrong_length_is_an_error() -> None:
    decoder = vhd.Decoder(StoredDisk, length=len(small_image()) + 1)
    decoder.feed(small_image())
    with pytest.raises(vhd.VHDError, match="came instead of"):
        decoder.finish()
    assert decoder.disk is not None
    decoder.disk.close()


def test_bytes_behind_the_footer_are_an_error() -> None:
    for more in (b"x", bytes(512)):
        with pytest.raises(vhd.VHDError, match="does not end with its footer"):
            decode(small_image() + more)


def test_no_footer_is_refused_in_the_servers_words() -> None:
    with pytest.raises(vhd.VHDError) as caught:
        decode(bytes(range(256)) * 4)
    actual, expected = 0x40414243, ~(2 * sum(range(256)) - sum(range(64, 68))) & 0xFFFFFFFF
    assert str(caught.value) == (
        f"invalid footer checksum {actual}, expected {expected}\n+ actual - expected\n\n+ {actual}\n- {expected}"
    )
    with pytest.raises(vhd.VHDError, match=f"invalid footer checksum {actual}, expected 4294967295"):
        decode(bytes(range(100)))


def test_a_fixed_vhd_is_refused_because_no_footer_opens_it() -> None:
    with pytest.raises(vhd.VHDError, match="invalid footer checksum"):
        decode(bytes(MIB) + small_image()[:512])


def changed(at: int, value: bytes, *, checksum: tuple[int, int, int] | None = None) -> bytes:
    """Return the small image with other bytes at `at`; `checksum` (start, end, place) of the part to sum anew."""
    image = bytearray(small_image())
    image[at : at + len(value)] = value
    if checksum is not None:
        start, end, place = checksum
        image[place : place + 4] = bytes(4)
        image[place : place + 4] = (~sum(image[start:end]) & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(image)


FOOTER, HEADER = (0, 512, 64), (512, 1536, 512 + 36)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda: changed(10, b"\xff"), "invalid footer checksum"),
        (lambda: changed(0, b"conectiy", checksum=FOOTER), "cookie"),
        (lambda: changed(60, struct.pack(">I", 4), checksum=FOOTER), "type 4"),
        (lambda: changed(48, struct.pack(">Q", 700), checksum=FOOTER), "no size"),
        (lambda: changed(16, struct.pack(">Q", 100), checksum=FOOTER), "header cannot be"),
        (lambda: changed(600, b"\x01"), "invalid header checksum"),
        (lambda: changed(512, b"cxsparsf", checksum=HEADER), "cookie"),
        (lambda: changed(528, struct.pack(">Q", 100), checksum=HEADER), "before the end of the header"),
        (lambda: changed(540, struct.pack(">I", 0), checksum=HEADER), "do not fit"),
        (lambda: changed(540, struct.pack(">I", 2**31), checksum=HEADER), "do not fit"),
        (lambda: changed(544, struct.pack(">I", 2**20 + 1), checksum=HEADER), "a block cannot have"),
        (lambda: changed(1536, struct.pack(">I", 1)), "overlaps"),
    ],
)
def test_a_broken_structure_is_an_error(image: object, message: str) -> None:
    assert callable(image)
    with pytest.raises(vhd.VHDError, match=message):
        decode(image())


def test_only_sectors_in_the_bitmap_are_taken() -> None:
    image = bytearray(small_image())
    bitmap = 512 + 1024 + 512
    image[bitmap : bitmap + 512] = b"\xa0" + bytes(511)
    with decode(bytes(image)) as disk:
        whole = decode(small_image())
        with whole:
            assert disk.read(0, 512) == whole.read(0, 512)
            assert disk.read(1024, 512) == whole.read(1024, 512)
            assert any(whole.read(512, 512))
        assert not any(disk.read(512, 512))
        assert not any(disk.read(1536, disk.size - 1536))


def test_blocks_may_come_in_any_order_with_gaps() -> None:
    with StoredDisk(4 * MIB) as disk:
        disk.write(0, b"first")
        disk.write(2 * MIB, b"second")
        image = b"".join(vhd.encode(disk))
    head, block = image[:2048], 512 + 2 * MIB
    first, second, footer = image[2048 : 2048 + block], image[2048 + block : -512], image[-512:]
    table = struct.pack(">2I", (2048 + 1024 + block) // 512, (2048 + 512) // 512).ljust(512, b"\xff")
    shuffled = head[:1536] + table + bytes(512) + second + bytes(512) + bytes(0) + first + bytes(1024) + footer
    shuffled = shuffled.replace(table, struct.pack(">2I", (2048 + 512 + block + 512) // 512, 5).ljust(512, b"\xff"))
    with decode(shuffled) as back:
        assert back.read(0, 5) == b"first"
        assert back.read(2 * MIB, 6) == b"second"


def test_memory_does_not_grow_with_the_image() -> None:
    def peak(size: int) -> int:
        tracemalloc.start()
        sink = Sink(size)
        decoder = vhd.Decoder(lambda _: sink)
        for piece in vhd.encode(PatternDisk(size, "x")):
            decoder.feed(piece)
        decoder.finish()
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(2 * MIB)
    assert peak(128 * MIB) < peak(16 * MIB) + MIB


class Sink(StoredDisk):
    """A disk that forgets what is written."""

    __slots__ = ()

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._check(offset, len(data))


def test_a_disk_larger_than_the_format_is_refused() -> None:
    with StoredDisk(2041 * 2**30) as disk, pytest.raises(vhd.VHDError, match="at most"):
        next(vhd.encode(disk))
