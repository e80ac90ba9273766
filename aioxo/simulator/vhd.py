"""Dynamic VHD images, written from a disk and read into one, as a stream.

A dynamic VHD is a footer copy, a header, a block allocation table (BAT), the blocks that hold data, each with a bitmap
of its sectors in front, and the footer. All numbers are big-endian. `encode` writes blocks in their order on the disk;
`Decoder` takes them in any order, with any gaps between the parts, as long as each part lies after the one it depends
on, which is what a stream allows.

A fixed VHD is raw data with a footer at the end only. Xen Orchestra takes the size of an upload from its first 512
bytes and refuses it when they are no footer, so it refuses fixed VHDs, and so does `Decoder`, with the server's words.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from aioxo.simulator.disks import SECTOR, Disk
from aioxo.simulator.pushparser import PIECE, Parser, PushParser, gather, skip

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

BLOCK = 2 * 2**20
MAXIMUM_SIZE = 2040 * 2**30
MAXIMUM_ENTRIES = 4 * 2**20
_BITMAP = BLOCK // SECTOR // 8
_UNUSED = 0xFFFFFFFF
_NOWHERE = 0xFFFFFFFFFFFFFFFF
_VERSION = 0x00010000
_DYNAMIC = 3
_HEADER = 1024

# cookie, features, version, data offset, time, creator, its version and host, two sizes, cylinders, heads, sectors,
# type, checksum, id, saved state
_FOOTER_FORMAT = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
# cookie, data offset, table offset, version, entries, block size, checksum; then the parent's, all zero
_HEADER_FORMAT = struct.Struct(">8sQQIIII")
_FOOTER_CHECKSUM_AT = 64
_HEADER_CHECKSUM_AT = 36


class VHDError(ValueError):
    """The bytes are not a whole dynamic VHD; the message is what the server would answer, where that is known."""


def encode(disk: Disk, *, identifier: str | None = None) -> Iterator[bytes]:
    """Yield `disk` as a dynamic VHD in pieces of at most 2 MiB, reading only the blocks that hold data.

    `identifier` is a uuid for the footer; None draws one from the disk's size. Raises `VHDError` at the first step when
    the disk is larger than a VHD can be. The disk must not change meanwhile.
    """
    if disk.size > MAXIMUM_SIZE:
        raise VHDError(f"a VHD holds at most {MAXIMUM_SIZE} bytes, and the disk has {disk.size}")
    footer = _footer(disk.size, _identifier(disk.size, identifier))
    occupied = [holds for _, holds in disk.blocks(BLOCK)]
    table_length = -(-4 * len(occupied) // SECTOR) * SECTOR
    sector = (SECTOR + _HEADER + table_length) // SECTOR
    table = []
    for holds in occupied:
        table.append(sector if holds else _UNUSED)
        sector += (_BITMAP + BLOCK) // SECTOR if holds else 0
    yield footer
    yield _header(len(occupied))
    yield struct.pack(f">{len(table)}I", *table).ljust(table_length, b"\xff")
    for number, holds in enumerate(occupied):
        if holds:
            offset = number * BLOCK
            yield b"\xff" * _BITMAP
            yield disk.read(offset, min(BLOCK, disk.size - offset)).ljust(BLOCK, b"\0")
    yield footer


def encoded_size(disk: Disk) -> int:
    """Return how many bytes `encode` yields for `disk` as it is now."""
    occupied = [holds for _, holds in disk.blocks(BLOCK)]
    table_length = -(-4 * len(occupied) // SECTOR) * SECTOR
    return 2 * SECTOR + _HEADER + table_length + sum(occupied) * (_BITMAP + BLOCK)


def _identifier(size: int, uuid: str | None) -> bytes:
    if uuid is not None:
        return bytes.fromhex(uuid.replace("-", ""))
    return hashlib.blake2b(size.to_bytes(8, "big"), digest_size=16).digest()


def _footer(size: int, identifier: bytes) -> bytes:
    # "tap" is what XCP-ng's tapdisk signs with; readers then take the size from its field and not from the geometry.
    fields = (
        b"conectix", 2, _VERSION, SECTOR, 0, b"tap\0", _VERSION, b"\0\0\0\0", size, size, *_geometry(size), _DYNAMIC,
    )  # fmt: skip
    return _with_checksum(_FOOTER_FORMAT.pack(*fields, 0, identifier, 0), _FOOTER_CHECKSUM_AT)


def _header(entries: int) -> bytes:
    fields = (b"cxsparse", _NOWHERE, SECTOR + _HEADER, _VERSION, entries, BLOCK, 0)
    return _with_checksum(_HEADER_FORMAT.pack(*fields).ljust(_HEADER, b"\0"), _HEADER_CHECKSUM_AT)


def _with_checksum(part: bytes, at: int) -> bytes:
    return part[:at] + _checksum(part, at).to_bytes(4, "big") + part[at + 4 :]


def _checksum(part: bytes, at: int) -> int:
    """Return the ones' complement of the sum of all bytes but the checksum's own."""
    return ~(sum(part) - sum(part[at : at + 4])) & 0xFFFFFFFF


def _geometry(size: int) -> tuple[int, int, int]:
    """Return cylinders, heads and sectors per track, as the format's specification computes them."""
    total = min(size // SECTOR, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        return total // 255 // 16, 16, 255
    track = 17
    per_head = total // track
    heads = max(4, -(-per_head // 1024))
    if per_head >= heads * 1024 or heads > 16:
        track, heads, per_head = 31, 16, total // 31
    if per_head >= heads * 1024:
        track, heads, per_head = 63, 16, total // 63
    return per_head // heads, heads, track


class Decoder:
    """Reads a dynamic VHD into a disk as bytes come, in memory that does not grow with the image's data.

    Call `feed` with what has come, then `finish`. After an error the decoder is of no more use.

    Args:
        make_disk: called once with the virtual size, when the footer copy has come; returns the disk to write into, all
            zeroes (blocks that the image leaves out are not written). The caller closes it, also after an error.
        length: the number of bytes that will come, where known; `finish` checks it.
    """

    def __init__(self, make_disk: Callable[[int], Disk], *, length: int | None = None) -> None:
        self.disk: Disk | None = None
        self._make_disk = make_disk
        self._length = length
        self._received = 0
        self._footer = b""
        self._last = b""
        self._head = bytearray()
        self._parser = PushParser(self._parse())

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the image; `VHDError` as soon as they cannot be one."""
        self._received += len(data)
        if len(self._head) < SECTOR:
            self._head += data[:SECTOR]
        self._parser.feed(data)

    def finish(self) -> Disk:
        """Return the disk; `VHDError` when the image is not whole or not of the announced length."""
        if self._received < SECTOR:
            self._refuse_short()
        if self._length is not None and self._received != self._length:
            raise VHDError(f"{self._received} bytes came instead of {self._length}")
        if self.disk is None or self._parser.leftover or not self._last or self._last != self._footer:
            raise VHDError(f"the image does not end with its footer after {self._received} bytes")
        return self.disk

    def _refuse_short(self) -> None:
        """The server sums a footer that is too short to nothing, and says so."""
        stored = self._head[_FOOTER_CHECKSUM_AT : _FOOTER_CHECKSUM_AT + 4]
        if len(stored) == 4:
            raise VHDError(_wrong_checksum("footer", int.from_bytes(stored, "big"), 0xFFFFFFFF))
        raise VHDError(f"{self._received} bytes are too few for a footer")

    def _parse(self) -> Parser:
        self._footer = yield SECTOR
        size, header_at = _parse_footer(self._footer)
        yield from skip(header_at - SECTOR)
        entries, block_size, table_at = _parse_header((yield _HEADER), size)
        position = header_at + _HEADER
        if table_at < position:
            raise VHDError(f"the allocation table at {table_at} comes before the end of the header")
        yield from skip(table_at - position)
        table = struct.unpack(f">{entries}I", (yield from gather(4 * entries)))
        position = table_at + 4 * entries
        needed = -(-size // block_size)
        places = sorted((at, number) for number, at in enumerate(table[:needed]) if at != _UNUSED)
        self.disk = self._make_disk(size)
        bitmap_length = -(-block_size // SECTOR // 8 // SECTOR) * SECTOR
        for at, number in places:
            if at * SECTOR < position:
                raise VHDError(f"block {number} at {at * SECTOR} overlaps what comes before it")
            yield from skip(at * SECTOR - position)
            bitmap = yield bitmap_length
            yield from self._block(self.disk, number * block_size, block_size, bitmap)
            position = at * SECTOR + bitmap_length + block_size
        yield from skip(-position % SECTOR)
        while True:
            self._last = yield SECTOR

    def _block(self, disk: Disk, start: int, block_size: int, bitmap: bytes) -> Generator[int, bytes, None]:
        """Read one block's data and write the sectors that its bitmap has, as far as the disk reaches."""
        for within in range(0, block_size, PIECE):
            piece = yield min(PIECE, block_size - within)
            piece = piece[: max(0, disk.size - start - within)]
            if piece:
                disk.write(start + within, _masked(piece, bitmap, within // SECTOR))


def _masked(piece: bytes, bitmap: bytes, first: int) -> bytes:
    """Return `piece`, which starts at sector `first` of its block, with zeroes where the bitmap has no bit."""
    sectors = len(piece) // SECTOR
    bits = bitmap[first >> 3 : first + sectors + 7 >> 3]
    if bits.count(0xFF) == len(bits):
        return piece
    masked = bytearray(piece)
    for sector in range(sectors):
        if not bits[sector >> 3] >> (7 - (sector & 7)) & 1:
            masked[sector * SECTOR : (sector + 1) * SECTOR] = bytes(SECTOR)
    return bytes(masked)


def _wrong_checksum(part: str, actual: int, expected: int) -> str:
    return f"invalid {part} checksum {actual}, expected {expected}\n+ actual - expected\n\n+ {actual}\n- {expected}"


def _parse_footer(footer: bytes) -> tuple[int, int]:
    """Return the virtual size and the header's offset."""
    fields = _FOOTER_FORMAT.unpack(footer)
    cookie, data_offset, size, kind, stored = fields[0], fields[3], fields[9], fields[13], fields[14]
    if stored != (expected := _checksum(footer, _FOOTER_CHECKSUM_AT)):
        raise VHDError(_wrong_checksum("footer", stored, expected))
    if cookie != b"conectix":
        raise VHDError(f"invalid footer cookie {cookie!r}")
    if kind != _DYNAMIC:
        raise VHDError(f"disk type {kind} is not supported: only dynamic images are")
    if not 0 < size <= MAXIMUM_SIZE or size % SECTOR:
        raise VHDError(f"{size} bytes is no size of a disk")
    if not SECTOR <= data_offset <= MAXIMUM_SIZE:
        raise VHDError(f"the header cannot be at {data_offset}")
    return size, data_offset


def _parse_header(header: bytes, size: int) -> tuple[int, int, int]:
    """Return the number of table entries, the block size and the table's offset."""
    cookie, _, table_at, _, entries, block_size, stored = _HEADER_FORMAT.unpack_from(header)
    if stored != (expected := _checksum(header, _HEADER_CHECKSUM_AT)):
        raise VHDError(_wrong_checksum("header", stored, expected))
    if cookie != b"cxsparse":
        raise VHDError(f"invalid header cookie {cookie!r}")
    if not 128 * SECTOR <= block_size <= 256 * 2**20 or block_size & (block_size - 1):
        raise VHDError(f"a block cannot have {block_size} bytes")
    if entries > MAXIMUM_ENTRIES or entries * block_size < size:
        raise VHDError(f"{entries} blocks of {block_size} bytes do not fit a disk of {size}")
    return entries, block_size, table_at
