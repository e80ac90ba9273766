"""XVA archives, XCP-ng's format of an exported VM, written from disks and read into them, as a stream.

An XVA is a tar archive. `ova.xml` comes first: the VM and what hangs on it as XML-RPC structs, which name each other by
`Ref:<number>`. Then, disk by disk, come members `Ref:<number>/<8 digits>` of 1 MiB, each followed by its checksum in a
member of the same name with `.checksum` (SHA-1, lower case) or `.xxhash` (XXH64, upper case) added. Empty blocks are
left out, except the first and the last; a gap in the numbers stands for them. Two zero blocks end the archive.

`encode` writes SHA-1, which the standard library computes at disk speed; `Decoder` checks either. A block is written to
its disk only when its checksum has come and is right.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aioxo.simulator import ovaxml
from aioxo.simulator.disks import Disk, StoredDisk
from aioxo.simulator.pushparser import Parser, PushParser, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

BLOCK = 2**20
MAXIMUM_XML = 16 * 2**20
RECORD = 512
_END = bytes(2 * RECORD)
_MASK = 2**64 - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


class XVAError(ValueError):
    """The bytes are not a whole XVA archive; `unrecognised stream` when they are none at all."""


@dataclass(frozen=True)
class ImportedDisk:
    """A disk of an imported VM: what the archive says of it, and its content, which the receiver closes."""

    name_label: str
    name_description: str
    position: int
    bootable: bool
    disk: Disk


@dataclass(frozen=True)
class ImportedVM:
    """A VM read from an archive; `memory` is in bytes, `disks` in the order of their positions."""

    name_label: str
    name_description: str
    cpus: int
    memory: int
    disks: list[ImportedDisk] = field(default_factory=list)


def encode(
    vm: Mapping[str, Any], disks: Sequence[tuple[str, Disk]], *, objects: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[bytes]:
    """Yield `vm` with `disks` as an uncompressed XVA in pieces of at most 1 MiB and some.

    `disks` are (VDI id, content) pairs; `objects` holds the VDIs, VBDs, VIFs and networks by id, and what it lacks goes
    by its id. The disks must not change meanwhile.
    """
    references = {vdi: f"Ref:{number}" for number, (vdi, _) in enumerate(disks, start=1)}
    yield from _member("ova.xml", ovaxml.dump(vm, [(vdi, disk.size) for vdi, disk in disks], references, objects or {}))
    for vdi, disk in sorted(disks, key=lambda item: references[item[0]]):
        last = (disk.size - 1) // BLOCK
        for offset, holds in disk.blocks(BLOCK):
            number = offset // BLOCK
            if holds or number in (0, last):
                name = f"{references[vdi]}/{number:08d}"
                block = disk.read(offset, min(BLOCK, disk.size - offset))
                yield from _member(name, block)
                yield from _member(f"{name}.checksum", hashlib.sha1(block, usedforsecurity=False).hexdigest().encode())
    yield _END


def _member(name: str, content: bytes) -> Iterator[bytes]:
    header = bytearray(RECORD)
    fields = (
        (0, name.encode()), (100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"),
        (124, b"%011o\0" % len(content)), (136, b"%011o\0" % 0), (148, b" " * 8), (156, b"0"), (257, b"ustar\x0000"),
        (265, b"root"), (297, b"root"), (329, b"0000000\0"), (337, b"0000000\0"),
    )  # fmt: skip
    for at, value in fields:
        header[at : at + len(value)] = value
    header[148:156] = b"%06o\0 " % sum(header)
    yield bytes(header)
    yield content
    if padding := -len(content) % RECORD:
        yield bytes(padding)


class Decoder:
    """Reads an XVA into disks as bytes come, with one block in memory at a time.

    Call `feed` with what has come, then `finish`, or `close` to give up. An error closes the disks made so far.

    Args:
        make_disk: called with the size of each disk when `ova.xml` has come; returns a disk of zeroes to write into.
    """

    def __init__(self, make_disk: Callable[[int], Disk] = StoredDisk) -> None:
        self._make_disk = make_disk
        self._vm: ovaxml.Description | None = None
        self._disks: dict[str, Disk] = {}
        self._filled: set[str] = set()
        self._ended = False
        self._parser = PushParser(self._parse())

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the archive; `XVAError` as soon as they cannot be one."""
        try:
            self._parser.feed(data)
        except BaseException:
            self.close()
            raise

    def finish(self) -> ImportedVM:
        """Return the VM, whose disks are now the caller's to close; `XVAError` when the archive is not whole."""
        if self._vm is None or not self._ended or self._parser.leftover:
            self.close()
            raise XVAError("the archive ends before its last record")
        disks = [
            ImportedDisk(
                each.name_label, each.name_description, each.position, each.bootable, self._disks[each.reference]
            )
            for each in sorted(self._vm.disks, key=lambda each: each.position)
        ]
        self._disks = {}
        return ImportedVM(self._vm.name_label, self._vm.name_description, self._vm.cpus, self._vm.memory, disks)

    def close(self) -> None:
        """Give up: close the disks made so far. After `finish` this does nothing."""
        for disk in self._disks.values():
            disk.close()
        self._disks = {}

    def _parse(self) -> Parser:
        name, length = _parse_header((yield RECORD), first=True)
        if name != "ova.xml" or length > MAXIMUM_XML:
            raise XVAError("unrecognised stream")
        text = yield from _content(length)
        try:
            self._vm = ovaxml.load(text)
        except ovaxml.OVAError as error:
            raise XVAError(str(error)) from error
        for each in self._vm.disks:
            if each.reference in self._disks:
                raise XVAError(f"two disks are called {each.reference}")
            self._disks[each.reference] = self._make_disk(each.size)
        header = yield RECORD
        while any(header):
            header = yield from self._disk(header)
        if missing := self._disks.keys() - self._filled:
            raise XVAError(f"the archive has no block of {min(missing)}")
        if any((yield RECORD)):
            raise XVAError("one zero record is followed by data")
        self._ended = True
        while True:
            if any((yield RECORD)):
                raise XVAError("there is data behind the end of the archive")

    def _disk(self, header: bytes) -> Generator[int, bytes, bytes]:
        """Read all blocks of the disk whose first header is given; return the header that comes after them.

        As the format has it, the first block's length is that of every block that was left out.
        """
        reference, number, length = _parse_block_name(header)
        if reference not in self._disks or reference in self._filled:
            raise XVAError(f"{reference} is no disk of the VM, or came before")
        self._filled.add(reference)
        disk, position, previous, usual = self._disks[reference], 0, -1, length
        while position < disk.size:
            other, number, length = _parse_block_name(header)
            if other != reference or number <= previous:
                raise XVAError(f"a block of {reference} is missing before {other}/{number:08d}")
            position += (number - previous - 1) * usual
            if length > BLOCK or position + length > disk.size:
                raise XVAError(f"block {number} of {reference} reaches beyond the disk's {disk.size} bytes")
            block = yield from _content(length)
            yield from _verify(block, f"{reference}/{number:08d}", (yield RECORD))
            disk.write(position, block)
            position, previous = position + length, number
            header = yield RECORD
        return header


def _content(length: int) -> Generator[int, bytes, bytes]:
    padded = yield from gather(length + -length % RECORD)
    return padded[:length]


def _verify(block: bytes, name: str, header: bytes) -> Generator[int, bytes, None]:
    """Read the checksum member of the block `name` and compare."""
    checksum_name, length = _parse_header(header)
    if checksum_name == f"{name}.checksum":
        expected = hashlib.sha1(block, usedforsecurity=False).hexdigest()
    elif checksum_name == f"{name}.xxhash":
        expected = f"{xxh64(block):016X}"
    else:
        raise XVAError(f"{name} is followed by {checksum_name} instead of its checksum")
    if length != len(expected):
        raise XVAError(f"the checksum of {name} has {length} bytes")
    found = (yield from _content(length)).decode("ascii", "replace")
    if found != expected:
        raise XVAError(f"Block {name} checksum failed: original = {found}; recomputed = {expected}")


def _parse_header(header: bytes, *, first: bool = False) -> tuple[str, int]:
    """Return the name and the length of a regular file; `first` words the error for a stream that is no tar at all."""
    try:
        stored = int(header[148:156].strip(b"\0 "), 8)
        length = int(header[124:136].strip(b"\0 ") or b"0", 8)
        name = header[:100].rstrip(b"\0").decode("ascii")
    except ValueError:
        stored, length, name = -1, 0, ""
    if stored != sum(header) - sum(header[148:156]) + 8 * 0x20 or header[156:157] not in (b"0", b"\0") or length < 0:
        raise XVAError("unrecognised stream" if first else "a record is no header of a file")
    return name, length


def _parse_block_name(header: bytes) -> tuple[str, int, int]:
    name, length = _parse_header(header)
    if (match := re.fullmatch(r"([^/]+)/(\d{8,})", name)) is None:
        raise XVAError(f"{name!r} is not the name of a block")
    return match[1], int(match[2]), length


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data: bytes) -> int:
    """Return the XXH64 hash of `data` with seed 0, at some 15 MB/s: enough for what others have written."""
    whole = len(data) // 32 * 32
    if whole:
        a, b, c, d = (_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK
        for words in struct.iter_unpack("<4Q", data[:whole]):
            a, b, c, d = _round(a, words[0]), _round(b, words[1]), _round(c, words[2]), _round(d, words[3])
        total = (_rotated(a, 1) + _rotated(b, 7) + _rotated(c, 12) + _rotated(d, 18)) & _MASK
        for lane in (a, b, c, d):
            total = ((total ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        total = _P5
    total = (total + len(data)) & _MASK
    at = whole
    while at + 8 <= len(data):
        total ^= _round(0, int.from_bytes(data[at : at + 8], "little"))
        total = (_rotated(total, 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= len(data):
        total ^= int.from_bytes(data[at : at + 4], "little") * _P1 & _MASK
        total = (_rotated(total, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        total = _rotated(total ^ byte * _P5 & _MASK, 11) * _P1 & _MASK
    total = (total ^ total >> 33) * _P2 & _MASK
    total = (total ^ total >> 29) * _P3 & _MASK
    return total ^ total >> 32
