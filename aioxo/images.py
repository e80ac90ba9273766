"""Is this disk image whole? Structure checks that read a stream once, in constant memory.

The server has no checksums, and ends a failed export as a clean, complete-looking, short body. So the proof that an
image is whole has to come from the image: each check takes the bytes as they pass (`feed`) and says at the end
(`finish`) whether it was all there.

============  =========================================================================================================
`RawCheck`    as many bytes as the disk is large
`VhdCheck`    a footer at the end, its copy at the start, both with a right checksum, the header between them sound
`TarCheck`    an XVA or OVA as far as the tar goes: every member whole, every header's checksum right, the end marked
`StartCheck`  a compressed stream begins as one; whether it ends as one is not looked at
`NoCheck`     nothing can be said, and why
============  =========================================================================================================
"""

from __future__ import annotations

from typing import Final, Protocol

from .errors import CorruptImage, Truncated

__all__ = ["Check", "NoCheck", "RawCheck", "StartCheck", "TarCheck", "VhdCheck", "check_for", "sniff"]

_SECTOR: Final = 512
_FOOTER_COOKIE: Final = b"conectix"
_HEADER_COOKIE: Final = b"cxsparse"


class Check(Protocol):
    """One look at an image as it passes."""

    #: What was proved, if `finish` does not raise; empty when nothing can be.
    name: str
    #: Why nothing could be proved; empty when something was.
    unchecked: str

    def feed(self, data: bytes) -> None:
        """Take the next piece, of any size."""

    def finish(self) -> None:
        """Take the end.

        Raises:
            Truncated: the end is missing.
            CorruptImage: it is all there but wrong.
        """


class NoCheck:
    """Nothing can be proved of this format; says why."""

    name = ""

    def __init__(self, why: str) -> None:
        self.unchecked = why

    def feed(self, data: bytes) -> None:
        """Look away."""

    def finish(self) -> None:
        """Say nothing."""


class StartCheck:
    """A compressed stream starts with the signature of its format."""

    def __init__(self, compression: str) -> None:
        self.name = f"{compression} signature"
        self.unchecked = f"what is inside the {compression} stream, its end included, is not looked at"
        self._compression = compression
        self._start = b""

    def feed(self, data: bytes) -> None:
        """Keep the first bytes."""
        if len(self._start) < 8:
            self._start += data[:8]

    def finish(self) -> None:
        """Compare them."""
        if (found := sniff(self._start)) != self._compression:
            message = f"a {self._compression} stream was asked for, but what came is {found}"
            raise CorruptImage(message, check=self.name)


class RawCheck:
    """A raw disk is exactly its virtual size, in bytes."""

    name = "length"
    unchecked = ""

    def __init__(self, size: int) -> None:
        self._size = size
        self._received = 0

    def feed(self, data: bytes) -> None:
        """Count."""
        self._received += len(data)

    def finish(self) -> None:
        """Compare with the size."""
        if self._received < self._size:
            message = f"the disk has {self._size} bytes, but the export ended after {self._received}"
            raise Truncated(message, received=self._received, expected=self._size)
        if self._received > self._size:
            message = f"the disk has {self._size} bytes, but the export has {self._received}"
            raise CorruptImage(message, check=self.name)


class VhdCheck:
    """A dynamic VHD: footer copy, header, ..., footer."""

    name = "vhd structure"
    unchecked = ""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = b""
        self._received = 0

    def feed(self, data: bytes) -> None:
        """Keep the first three sectors and the last one."""
        missing = 3 * _SECTOR - len(self._head)
        if missing > 0:
            self._head += data[:missing]
        self._received += len(data)
        self._tail = data[-_SECTOR:] if len(data) >= _SECTOR else (self._tail + data)[-_SECTOR:]

    def finish(self) -> None:
        """Compare the two footers and verify the checksums."""
        head = bytes(self._head)
        if self._received and not head.startswith(_FOOTER_COOKIE[: len(head)]):
            self._fail("it does not start with a footer")
        if self._received < 4 * _SECTOR or not self._tail.startswith(_FOOTER_COOKIE):
            message = f"the export ended after {self._received} bytes without the footer that ends a VHD"
            raise Truncated(message, received=self._received)
        footer, header = head[:_SECTOR], head[_SECTOR:]
        if footer != self._tail:
            self._fail("the footer at the end differs from its copy at the start")
        if _vhd_checksum(footer, 64) != footer[64:68]:
            self._fail("the footer's checksum is wrong")
        if int.from_bytes(footer[60:64], "big") != 2:  # a fixed one has no header
            if not header.startswith(_HEADER_COOKIE):
                self._fail("the header is missing")
            if _vhd_checksum(header, 36) != header[36:40]:
                self._fail("the header's checksum is wrong")

    def _fail(self, what: str) -> None:
        message = f"this is not a sound VHD: {what}"
        raise CorruptImage(message, check=self.name)


def _vhd_checksum(block: bytes, offset: int) -> bytes:
    """One's complement of the sum of all bytes but those of the checksum itself, as four bytes."""
    total = sum(block) - sum(block[offset : offset + 4])
    return (~total & 0xFFFFFFFF).to_bytes(4, "big")


class TarCheck:
    """A tar archive up to the two empty sectors that end it."""

    name = "tar structure"
    unchecked = ""

    def __init__(self) -> None:
        self._received = 0
        self._skip = 0  # bytes of the current member, and of the padding behind it, still to come
        self._header = bytearray()
        self._empty = 0
        self._members = 0
        self._fault = ""

    def feed(self, data: bytes) -> None:
        """Walk from header to header."""
        self._received += len(data)
        if self._fault:
            return
        position, end = 0, len(data)
        while position < end and self._empty < 2:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
                continue
            step = min(_SECTOR - len(self._header), end - position)
            self._header += data[position : position + step]
            position += step
            if len(self._header) == _SECTOR:
                self._fault = self._take_header(bytes(self._header))
                self._header.clear()
                if self._fault:
                    return

    def _take_header(self, header: bytes) -> str:
        """Learn how long the member is; return what is wrong with its header, or nothing."""
        if not header.strip(b"\0"):
            self._empty += 1
            return ""
        if self._empty:
            return "an empty sector stands between two members"
        member = self._members + 1
        try:
            checksum, size = _tar_number(header[148:156]), _tar_number(header[124:136])
        except ValueError:
            return f"the header of member {member} is not one"
        if sum(header) - sum(header[148:156]) + 8 * 0x20 != checksum:
            return f"the checksum of the header of member {member} is wrong"
        self._members = member
        self._skip = -(-size // _SECTOR) * _SECTOR
        return ""

    def finish(self) -> None:
        """See that the last member was whole and the end marked."""
        if self._fault:
            message = f"this is not a sound tar archive: {self._fault}"
            raise CorruptImage(message, check=self.name)
        if not self._members and self._empty == 2:
            message = "this is not a sound tar archive: there is nothing in it"
            raise CorruptImage(message, check=self.name)
        if self._empty < 2:
            message = (
                f"the archive ended after {self._received} bytes and {self._members} members, without its end mark"
            )
            raise Truncated(message, received=self._received)


def _tar_number(text: bytes) -> int:
    if text[0] & 0x80:  # GNU: a number too large for octal digits
        return int.from_bytes(text[1:], "big")
    digits = text.strip(b"\0 ")
    if digits.strip(b"01234567"):
        # int() would take a sign, and a negative size would send the reader back for ever.
        message = "not an octal number"
        raise ValueError(message)
    return int(digits or b"0", 8)


def sniff(start: bytes) -> str:
    """Tell a format from the first bytes of an image: "vhd", "qcow2", "vmdk", "tar", "zstd", "gzip" or "raw".

    A raw disk may begin with anything, so "raw" means "none of the others".
    """
    signatures = (
        (_FOOTER_COOKIE, "vhd"),
        (b"QFI\xfb", "qcow2"),
        (b"KDMV", "vmdk"),
        (b"# Disk DescriptorFile", "vmdk"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x1f\x8b", "gzip"),
    )
    for signature, name in signatures:
        if start.startswith(signature):
            return name
    return "tar" if start[257:262] == b"ustar" else "raw"


def check_for(format: str, *, size: int | None = None, compress: str | None = None) -> Check:
    """Return the check for an export.

    Args:
        format: "raw", "vhd", "xva" or "ova".
        size: a raw disk's virtual size in bytes, or None when it is not known.
        compress: the compression asked for an XVA, or None.
    """
    if format == "raw":
        return NoCheck("the size of the disk is not known") if size is None else RawCheck(size)
    if format == "vhd":
        return VhdCheck()
    if compress:
        return StartCheck(compress)
    return TarCheck()
