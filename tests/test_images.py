"""Is an image whole? Every cut, and every byte that matters turned over, at any size of the pieces.

The images are built by other means than the code under test: tar archives by the standard library, VHDs by hand from
the format's description.
"""

from __future__ import annotations

import io
import struct
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioxo.errors import CorruptImage, Truncated
from aioxo.images import Check, NoCheck, RawCheck, StartCheck, TarCheck, VhdCheck, check_for, sniff

if TYPE_CHECKING:
    from collections.abc import Callable

SECTOR = 512


def with_checksum(sector: bytes, offset: int) -> bytes:
    assert sector[offset : offset + 4] == bytes(4)
    return sector[:offset] + struct.pack(">I", ~sum(sector) & 0xFFFFFFFF) + sector[offset + 4 :]


def footer(kind: int = 3, size: int = 2**21) -> bytes:
    fields = struct.pack(
        ">8sIIQI4sI4sQQIII16sB", b"conectix", 2, 0x10000, 512, 0, b"test", 0x10000, b"Wi2k", size, size, 0, kind, 0,
        b"u" * 16, 0,
    )  # fmt: skip
    return with_checksum(fields.ljust(SECTOR, b"\0"), 64)


def header() -> bytes:
    fields = struct.pack(">8sQQIIII", b"cxsparse", 2**64 - 1, 1536, 0x10000, 1, 2**21, 0)
    return with_checksum(fields.ljust(2 * SECTOR, b"\0"), 36)


def dynamic_vhd(data: bytes = b"d" * 3 * SECTOR) -> bytes:
    return footer() + header() + struct.pack(">I", 5).ljust(SECTOR, b"\xff") + data + footer()


def xva(*, format: int = tarfile.USTAR_FORMAT) -> tuple[bytes, list[int]]:
    """An XVA and the offsets of its members' headers."""
    archive = io.BytesIO()
    offsets = []
    with tarfile.open(fileobj=archive, mode="w", format=format) as tar:
        for name, data in [
            ("ova.xml", b"<value/>"),
            ("Ref:1/00000000", b"x" * 1024),
            ("Ref:1/00000000.xxhash", b"h" * 16),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            offsets.append(tar.offset)
            tar.addfile(info, io.BytesIO(data))
    data = archive.getvalue()
    end = offsets[-1] + 2 * SECTOR + 2 * SECTOR  # without the padding to 10 kB, which XAPI does not make
    return data[:end], offsets


def run(check: Check, data: bytes, size: int = 2**30) -> Check:
    for start in range(0, len(data), size):
        check.feed(data[start : start + size])
    check.finish()
    return check


SIZES = [1, 7, 511, 512, 513, 2**30]


@pytest.mark.parametrize("size", SIZES)
def test_whole_images_pass_in_pieces_of_any_size(size: int) -> None:
    assert run(VhdCheck(), dynamic_vhd(), size).name == "vhd structure"
    assert run(TarCheck(), xva()[0], size).name == "tar structure"
    assert run(TarCheck(), xva(format=tarfile.GNU_FORMAT)[0], size).unchecked == ""
    assert run(TarCheck(), xva(format=tarfile.PAX_FORMAT)[0] + bytes(10 * SECTOR), size).unchecked == ""
    assert run(RawCheck(3000), b"r" * 3000, size).name == "length"


def test_a_fixed_vhd_has_its_data_where_others_have_a_header() -> None:
    # Known by its footer at both ends; the pool makes dynamic ones only.
    run(VhdCheck(), footer(kind=2) + b"d" * 4 * SECTOR + footer(kind=2))


@pytest.mark.parametrize("piece", [7, 2**30])
def test_a_vhd_cut_anywhere_is_not_whole(piece: int) -> None:
    image = dynamic_vhd()
    for length in range(len(image)):
        with pytest.raises(Truncated) as raised:
            run(VhdCheck(), image[:length], piece)
        assert raised.value.received == length
        assert raised.value.expected is None
        assert f"{length} bytes" in str(raised.value)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_an_xva_cut_anywhere_is_not_whole(format: int) -> None:
    image, _ = xva(format=format)
    for length in range(len(image)):
        with pytest.raises(Truncated) as raised:
            run(TarCheck(), image[:length], 777)
        assert raised.value.received == length


def test_an_xva_that_lacks_its_last_sector_has_no_end() -> None:
    image, _ = xva()
    assert image.endswith(bytes(2 * SECTOR))
    with pytest.raises(Truncated, match="3 members, without its end mark"):
        run(TarCheck(), image[:-SECTOR])


def turned(image: bytes, offset: int) -> bytes:
    return image[:offset] + bytes([image[offset] ^ 0x55]) + image[offset + 1 :]


def test_every_byte_of_a_tar_header_is_watched() -> None:
    image, offsets = xva()
    for start in offsets:
        for offset in range(start, start + SECTOR):
            with pytest.raises((CorruptImage, Truncated)):
                run(TarCheck(), turned(image, offset))


def test_every_byte_of_footers_and_header_is_watched() -> None:
    image = dynamic_vhd()
    for offset in (*range(3 * SECTOR), *range(len(image) - SECTOR, len(image))):
        with pytest.raises((CorruptImage, Truncated)):
            run(VhdCheck(), turned(image, offset))


def test_both_footers_wrong_in_the_same_way_is_seen() -> None:
    image = turned(turned(dynamic_vhd(), 70), len(dynamic_vhd()) - SECTOR + 70)
    with pytest.raises(CorruptImage, match="footer's checksum") as raised:
        run(VhdCheck(), image)
    assert raised.value.check == "vhd structure"


@pytest.mark.parametrize(
    ("check", "data", "match"),
    [
        (VhdCheck, b"<!DOCTYPE html>" * 200, "does not start with a footer"),
        (VhdCheck, b"<", "does not start with a footer"),
        (VhdCheck, footer() + b"q" * 2 * SECTOR + footer(), "header is missing"),
        (TarCheck, b"<!DOCTYPE html>" * 200, "header of member 1"),
        (TarCheck, bytes(SECTOR) + xva()[0], "empty sector stands between"),
        (TarCheck, xva()[0][: 2 * SECTOR] + b"\xff" * SECTOR, "member 2"),
        (lambda: RawCheck(10), b"x" * 11, "has 11"),
        (lambda: StartCheck("zstd"), b"\x1f\x8b" + bytes(20), "what came is gzip"),
        (lambda: StartCheck("gzip"), b"", "what came is raw"),
    ],
)
def test_what_is_something_else_is_told(check: Callable[[], Check], data: bytes, match: str) -> None:
    with pytest.raises(CorruptImage, match=match) as raised:
        run(check(), data)
    assert raised.value.check


@given(st.binary(max_size=3 * SECTOR), st.integers(1, 600))
def test_no_bytes_at_all_break_a_check(data: bytes, size: int) -> None:
    for check in (VhdCheck(), TarCheck()):
        with pytest.raises((CorruptImage, Truncated)):
            run(check, data, size)


@given(st.binary(min_size=12, max_size=12))
def test_a_header_with_any_size_in_it_is_judged(field: bytes) -> None:
    image, _ = xva()
    blank = image[:124] + field + image[136:148] + b" " * 8 + image[156:SECTOR]
    sound = blank[:148] + f"{sum(blank):06o}\0 ".encode() + blank[156:]
    check = TarCheck()
    check.feed(sound)
    assert check._skip >= 0
    with pytest.raises((CorruptImage, Truncated)):
        check.finish()


def test_a_large_member_is_measured_in_either_notation() -> None:
    for size in (8**11 - 1, 2**40 + 1):  # the second is too large for octal digits
        info = tarfile.TarInfo("large")
        info.size = size
        check = TarCheck()
        check.feed(info.tobuf(tarfile.GNU_FORMAT))
        assert check._skip == -(-size // SECTOR) * SECTOR


def test_the_empty_export_is_short_not_corrupt() -> None:
    for check in (VhdCheck(), TarCheck(), RawCheck(1)):
        with pytest.raises(Truncated) as raised:
            check.finish()
        assert raised.value.received == 0


def test_a_short_raw_disk_says_how_short() -> None:
    with pytest.raises(Truncated) as raised:
        run(RawCheck(1000), b"x" * 999)
    assert (raised.value.received, raised.value.expected) == (999, 1000)


def test_what_cannot_be_checked_says_why() -> None:
    check = run(NoCheck("nobody knows"), b"anything")
    assert (check.name, check.unchecked) == ("", "nobody knows")
    compressed = run(StartCheck("zstd"), b"\x28\xb5\x2f\xfd" + b"x" * 20, 1)
    assert compressed.name == "zstd signature"
    assert "not looked at" in compressed.unchecked


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (footer(), "vhd"),
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"KDMV\1", "vmdk"),
        (b"# Disk DescriptorFile\n", "vmdk"),
        (xva()[0][:SECTOR], "tar"),
        (xva(format=tarfile.GNU_FORMAT)[0][:SECTOR], "tar"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"", "raw"),
        (bytes(SECTOR), "raw"),
    ],
)
def test_formats_are_told_from_their_first_bytes(start: bytes, format: str) -> None:
    assert sniff(start) == format


def test_check_for_a_format() -> None:
    assert isinstance(check_for("raw", size=1), RawCheck)
    assert isinstance(check_for("raw"), NoCheck)
    assert isinstance(check_for("vhd"), VhdCheck)
    assert isinstance(check_for("xva"), TarCheck)
    assert isinstance(check_for("ova"), TarCheck)
    assert isinstance(check_for("xva", compress="zstd"), StartCheck)
