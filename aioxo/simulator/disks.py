"""Virtual disks that hold real bytes without costing their size.

A disk is two layers. Underneath lies its origin: either nothing (zeroes) or a `Pattern`, a pure function of a key and
an offset, so that a hundred thousand generated disks store nothing. On top lie pages of `PAGE` bytes that somebody has
written; a page is a slot in a `_Store`, a temporary file that stays in memory while small. A page written with zeroes
is remembered as a hole over the origin and takes no slot, so an import of a sparse image costs only its data.

Copying a disk copies its page table and shares the store: slots count their owners, and a write to a shared slot goes
to a new one. The last disk of a store to be closed closes the file.

Disks may be read and written from several threads; one lock per store orders the file's accesses.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import threading
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

SECTOR = 512
PAGE = 64 * 1024
PATTERN_BLOCK = 2 * 2**20
IN_MEMORY = 2**20
_STAMP = 32
_NOISE = 4 * PATTERN_BLOCK
_ZERO_PAGE = bytes(PAGE)
_HOLE = -1


class Disk(ABC):
    """A virtual disk of a fixed size whose bytes come back as they were written.

    Args:
        size: the virtual size in bytes, a positive multiple of 512; `ValueError` otherwise.
    """

    __slots__ = ("__weakref__", "size")

    def __init__(self, size: int) -> None:
        if size <= 0 or size % SECTOR:
            raise ValueError(f"a disk's size is a positive multiple of {SECTOR} bytes, not {size}")
        self.size = size

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; `ValueError` when that leaves the disk or the disk is closed."""

    @abstractmethod
    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `offset`; `ValueError` when that leaves the disk or the disk is closed."""

    @abstractmethod
    def blocks(self, block_size: int) -> Iterator[tuple[int, bool]]:
        """Yield `(offset, holds data)` for each block; False promises that the whole block reads as zeroes."""

    @abstractmethod
    def allocated(self) -> int:
        """Return the bytes of the pages and pattern blocks that hold data, at most `size`."""

    @abstractmethod
    def copy(self) -> Disk:
        """Return an independent disk of the same content; unchanged pages are shared. The caller closes both."""

    @abstractmethod
    def close(self) -> None:
        """Give up the storage; reading and writing then raise `ValueError`. Closing twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@functools.cache
def _noise() -> memoryview:
    """Bytes that compress badly, shared by all patterns; each block of each disk is a window into them."""
    return memoryview(hashlib.shake_128(b"aioxo simulator noise").digest(_NOISE))


class Pattern:
    """Content computed from a key: about half of the 2 MiB blocks are empty, the first never is.

    A block that is not empty is a window into shared noise at a place drawn from (key, block), opened by a stamp of
    both, so no two blocks of any two keys are alike, at the price of a memory copy.
    """

    __slots__ = ("_bitmap", "_key", "_size")

    def __init__(self, key: str, size: int) -> None:
        self._key = key
        self._size = size
        self._bitmap: bytes | None = None

    def holds_data(self, block: int) -> bool:
        """Tell whether pattern block number `block` has bytes that are not zero."""
        return bool(self._map()[block >> 3] >> (block & 7) & 1)

    def allocated(self) -> int:
        """Return the bytes of the blocks that hold data."""
        count = int.from_bytes(self._draw_map(), "little").bit_count()
        tail = self._size % PATTERN_BLOCK
        if not tail or not self.holds_data(self._size // PATTERN_BLOCK):
            return count * PATTERN_BLOCK
        return (count - 1) * PATTERN_BLOCK + tail

    def pieces(self, offset: int, length: int) -> Iterator[bytes | memoryview]:
        """Yield the content from `offset` in pieces that add up to `length` bytes, copying as little as possible."""
        end = offset + length
        while offset < end:
            block, within = divmod(offset, PATTERN_BLOCK)
            take = min(PATTERN_BLOCK - within, end - offset)
            if self.holds_data(block):
                yield from self._window(block, within, take)
            else:
                yield bytes(take)
            offset += take

    def _window(self, block: int, within: int, take: int) -> Iterator[bytes | memoryview]:
        stamp = hashlib.blake2b(block.to_bytes(8, "little"), digest_size=_STAMP, key=self._digest()).digest()
        start = int.from_bytes(stamp[:8], "little") % (_NOISE - PATTERN_BLOCK) + within
        head = stamp[within : within + take]
        if head:
            yield head
        yield _noise()[start + len(head) : start + take]

    def _digest(self) -> bytes:
        return hashlib.blake2b(self._key.encode(), digest_size=32).digest()

    def _map(self) -> bytes:
        if self._bitmap is None:
            self._bitmap = self._draw_map()
        return self._bitmap

    def _draw_map(self) -> bytes:
        """One bit per block, drawn in one go so that the allocation of a disk costs one hash."""
        blocks = -(-self._size // PATTERN_BLOCK)
        drawn = bytearray(hashlib.shake_128(self._key.encode()).digest(-(-blocks // 8)))
        drawn[0] |= 1
        if blocks % 8:
            drawn[-1] &= (1 << blocks % 8) - 1
        return bytes(drawn)


class _Store:
    """Slots of one page each in a file that is in memory while small; counts the owners of each slot and its disks."""

    __slots__ = ("_file", "_free", "_lock", "_owners", "disks")

    def __init__(self) -> None:
        # The store outlives this function on purpose: it is closed with its last disk.
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, prefix="aioxo-disk-")  # noqa: SIM115
        self._lock = threading.Lock()
        self._owners: list[int] = []
        self._free: list[int] = []
        self.disks = 1

    def load(self, slot: int) -> bytes:
        with self._lock:
            self._file.seek(slot * PAGE)
            return self._file.read(PAGE)

    def save(self, slot: int, page: bytes | memoryview) -> int:
        """Store `page`, in `slot` when this disk alone owns it, else in another; return where."""
        with self._lock:
            if slot == _HOLE or self._owners[slot] > 1:
                if slot != _HOLE:
                    self._owners[slot] -= 1
                if self._free:
                    slot = self._free.pop()
                else:
                    slot = len(self._owners)
                    self._owners.append(0)
                self._owners[slot] = 1
            self._file.seek(slot * PAGE)
            self._file.write(page)
            return slot

    def share(self, slots: Iterator[int]) -> None:
        with self._lock:
            self.disks += 1
            for slot in slots:
                self._owners[slot] += 1

    def release(self, slots: Iterator[int]) -> None:
        with self._lock:
            for slot in slots:
                self._owners[slot] -= 1
                if not self._owners[slot]:
                    self._free.append(slot)

    def leave(self, slots: Iterator[int]) -> None:
        """One disk fewer; the last one closes the file."""
        self.release(slots)
        with self._lock:
            self.disks -= 1
            if not self.disks:
                self._file.close()


class StoredDisk(Disk):
    """A disk of zeroes, or of a pattern, with written pages over it.

    Args:
        size: virtual size in bytes, a positive multiple of 512.
        pattern: what the disk holds where nobody has written; None means zeroes.
    """

    __slots__ = ("_closed", "_pages", "_pattern", "_store")

    def __init__(self, size: int, pattern: Pattern | None = None) -> None:
        self._closed = True  # until the size is known to be good, for __del__
        self._store: _Store | None = None
        super().__init__(size)
        self._pattern = pattern
        self._pages: dict[int, int] = {}
        self._closed = False

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; `ValueError` when that leaves the disk or the disk is closed."""
        self._check(offset, length)
        origin = bytes(length) if self._pattern is None else b"".join(self._pattern.pieces(offset, length))
        if not self._pages:
            return origin
        result = memoryview(bytearray(origin))
        for page in range(offset // PAGE, -(-(offset + length) // PAGE)):
            slot = self._pages.get(page)
            if slot is None:
                continue
            content = _ZERO_PAGE if slot == _HOLE or self._store is None else self._store.load(slot)
            start, end = max(offset, page * PAGE), min(offset + length, (page + 1) * PAGE)
            result[start - offset : end - offset] = memoryview(content)[start - page * PAGE : end - page * PAGE]
        return bytes(result)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `offset`; `ValueError` when that leaves the disk or the disk is closed."""
        view = memoryview(data).cast("B")
        self._check(offset, len(view))
        position = 0
        while position < len(view):
            page, within = divmod(offset + position, PAGE)
            take = min(PAGE - within, len(view) - position)
            self._write_page(page, within, view[position : position + take])
            position += take

    def blocks(self, block_size: int) -> Iterator[tuple[int, bool]]:
        """Yield `(offset, holds data)` for each block; False promises that the whole block reads as zeroes."""
        if block_size <= 0:
            raise ValueError(f"a block size is positive, not {block_size}")
        for offset in range(0, self.size, block_size):
            self._check(offset, 0)
            yield offset, self._holds_data(offset, min(offset + block_size, self.size))

    def allocated(self) -> int:
        """Return the bytes of the pages and pattern blocks that hold data, at most `size`."""
        self._check(0, 0)
        total = 0 if self._pattern is None else self._pattern.allocated()
        for page, slot in self._pages.items():
            length = min(PAGE, self.size - page * PAGE)
            if self._under(page):
                total -= length
            if slot != _HOLE:
                total += length
        return total

    def copy(self) -> StoredDisk:
        """Return an independent disk of the same content; unchanged pages are shared. The caller closes both."""
        self._check(0, 0)
        twin = StoredDisk(self.size, self._pattern)
        twin._pages = dict(self._pages)
        if self._store is not None:
            self._store.share(self._slots())
            twin._store = self._store
        return twin

    def close(self) -> None:
        """Give up the storage; reading and writing then raise `ValueError`. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._store is not None:
            self._store.leave(self._slots())
            self._store = None
        self._pages = {}

    def __del__(self) -> None:
        if self._store is not None and not self._closed:
            description = repr(self)
            self.close()  # before the warning, which may be an error
            warnings.warn(f"unclosed {description}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._pages)} pages written"
        return f"<{type(self).__name__} of {self.size} bytes, {state}>"

    def _write_page(self, page: int, within: int, data: memoryview) -> None:
        room = min(PAGE, self.size - page * PAGE)
        whole: bytes | memoryview = data
        if len(data) < room:
            merged = bytearray(self.read(page * PAGE, room))
            merged[within : within + len(data)] = data
            whole = bytes(merged)
        slot = self._pages.get(page, _HOLE)
        if whole == memoryview(_ZERO_PAGE)[:room]:
            if slot != _HOLE and self._store is not None:
                self._store.release(iter((slot,)))
            if self._under(page):
                self._pages[page] = _HOLE
            else:
                self._pages.pop(page, None)
            return
        if self._store is None:
            self._store = _Store()
        if len(whole) < PAGE:
            whole = bytes(whole) + bytes(PAGE - len(whole))
        self._pages[page] = self._store.save(slot, whole)

    def _holds_data(self, start: int, end: int) -> bool:
        first, last = start // PAGE, -(-end // PAGE)
        if not self._pages:
            if self._pattern is None:
                return False
            return any(map(self._pattern.holds_data, range(start // PATTERN_BLOCK, -(-end // PATTERN_BLOCK))))
        for page in range(first, last):
            slot = self._pages.get(page)
            if self._under(page) if slot is None else slot != _HOLE:
                return True
        return False

    def _under(self, page: int) -> bool:
        """Tell whether the origin holds data where `page` lies."""
        return self._pattern is not None and self._pattern.holds_data(page * PAGE // PATTERN_BLOCK)

    def _slots(self) -> Iterator[int]:
        return (slot for slot in self._pages.values() if slot != _HOLE)

    def _check(self, offset: int, length: int) -> None:
        if self._closed:
            raise ValueError("the disk is closed")
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are not within a disk of {self.size} bytes")


class PatternDisk(StoredDisk):
    """A generated disk: its content follows from `key` and costs no storage until it is written to.

    Args:
        size: virtual size in bytes, a positive multiple of 512.
        key: what the content is drawn from; equal keys and sizes give equal disks.
    """

    __slots__ = ()

    def __init__(self, size: int, key: str) -> None:
        super().__init__(size, Pattern(key, size))
