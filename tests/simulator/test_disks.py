"""Disks: bytes come back as written, copies are independent, holes cost nothing, nothing leaks."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioxo.simulator.disks import IN_MEMORY, PAGE, PATTERN_BLOCK, Disk, PatternDisk, StoredDisk

MIB = 2**20
SIZE = 4 * PAGE + 1536

content = st.one_of(st.binary(max_size=3000), st.integers(1, 3 * PAGE).map(bytes), st.just(b"\x07" * (PAGE + 100)))
writes = st.lists(st.tuples(st.integers(0, SIZE), content), max_size=8)


def apply(disk: Disk, model: bytearray, changes: list[tuple[int, bytes]]) -> None:
    for offset, data in changes:
        data = data[: SIZE - offset]
        disk.write(offset, data)
        model[offset : offset + len(data)] = data


def check(disk: Disk, model: bytearray, block_size: int) -> None:
    assert disk.read(0, disk.size) == model
    offsets = []
    for offset, holds in disk.blocks(block_size):
        offsets.append(offset)
        if not holds:
            assert not any(model[offset : offset + block_size])
    assert offsets == list(range(0, disk.size, block_size))


@given(writes, writes, writes, st.booleans(), st.sampled_from([512, PAGE, 100_000, MIB]))
def test_any_writes_before_and_after_a_copy(
    before: list[tuple[int, bytes]],
    original: list[tuple[int, bytes]],
    copied: list[tuple[int, bytes]],
    pattern: bool,
    block_size: int,
) -> None:
    with PatternDisk(SIZE, "key") if pattern else StoredDisk(SIZE) as disk:
        model = bytearray(disk.read(0, SIZE))
        apply(disk, model, before)
        with disk.copy() as twin:
            twin_model = bytearray(model)
            apply(disk, model, original)
            apply(twin, twin_model, copied)
            check(disk, model, block_size)
            check(twin, twin_model, block_size)
        check(disk, model, block_size)


@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_any_part_of_a_pattern_equals_that_part_of_the_whole(first: int, second: int) -> None:
    disk = PatternDisk(SIZE, "key")
    start, end = sorted((first, second))
    assert disk.read(start, end - start) == disk.read(0, SIZE)[start:end]


def test_a_pattern_differs_from_block_to_block_and_from_disk_to_disk() -> None:
    blocks = set()
    count = 0
    for key in ("a", "b"):
        disk = PatternDisk(64 * MIB, key)
        for offset, holds in disk.blocks(MIB):
            block = disk.read(offset, MIB)
            assert any(block) == holds
            if holds:
                blocks.add(block)
                count += 1
    assert len(blocks) == count > 40


def test_each_block_opens_with_a_stamp_of_its_own() -> None:
    disks = [PatternDisk(64 * MIB, key) for key in "ab"]
    stamps = [disk.read(offset, 32) for disk in disks for offset, holds in disk.blocks(PATTERN_BLOCK) if holds]
    assert all(any(stamp) for stamp in stamps)
    assert len(set(stamps)) == len(stamps)


def test_about_half_of_a_generated_disk_is_empty_and_the_first_block_never() -> None:
    disks = [PatternDisk(64 * MIB, str(number)) for number in range(50)]
    share = sum(disk.allocated() for disk in disks) / (64 * MIB * 50)
    assert 0.4 < share < 0.6
    assert all(next(disk.blocks(512))[1] for disk in disks)


@pytest.mark.parametrize("size", [512, PATTERN_BLOCK, PATTERN_BLOCK + 512, 17 * PATTERN_BLOCK - 512])
def test_allocation_is_what_the_blocks_say(size: int) -> None:
    for number in range(20):
        disk = PatternDisk(size, str(number))
        held = sum(min(512, size - at) for at, holds in disk.blocks(512) if holds) if size < PATTERN_BLOCK else None
        blocks = sum(min(PATTERN_BLOCK, size - at) for at, holds in disk.blocks(PATTERN_BLOCK) if holds)
        assert disk.allocated() == blocks
        assert held in (None, blocks)


def test_zeroes_make_holes_and_holes_over_a_pattern_count() -> None:
    with PatternDisk(2 * PATTERN_BLOCK, "key") as disk:
        full = disk.allocated()
        disk.write(0, bytes(PATTERN_BLOCK))
        assert disk.allocated() == full - PATTERN_BLOCK
        assert not next(disk.blocks(PATTERN_BLOCK))[1]
        disk.write(5, b"x")
        assert disk.allocated() == full - PATTERN_BLOCK + PAGE
        assert disk.read(0, 10) == b"\0\0\0\0\0x\0\0\0\0"


def test_a_sparse_disk_costs_only_its_data() -> None:
    with StoredDisk(10 * 2**40) as disk:
        disk.write(5 * 2**40, b"data")
        disk.write(7 * 2**40, bytes(MIB))
        assert disk.allocated() == PAGE
        assert disk.read(5 * 2**40 - 1, 6) == b"\0data\0"


def test_overwritten_and_released_pages_are_used_again() -> None:
    with StoredDisk(64 * PAGE) as disk:
        for _ in range(10):
            with disk.copy() as twin:
                twin.write(0, b"\x01" * 32 * PAGE)
                twin.write(0, b"\x02" * 32 * PAGE)
                disk.write(0, b"\x03" * 32 * PAGE)
        assert disk._store is not None
        assert len(disk._store._owners) <= 64


def test_large_contents_move_to_a_file_and_come_back() -> None:
    data = PatternDisk(4 * MIB, "source").read(0, 2 * MIB)
    with StoredDisk(4 * MIB) as disk:
        disk.write(MIB, data)
        assert disk.allocated() > IN_MEMORY
        assert disk.read(MIB, len(data)) == data


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_forgotten_disk_warns_and_its_file_is_closed() -> None:
    disk = StoredDisk(MIB)
    disk.write(0, b"x")
    store = disk._store
    assert store is not None
    forgotten = [disk]
    del disk
    with pytest.warns(ResourceWarning, match="unclosed <StoredDisk of 1048576 bytes"):
        forgotten.clear()
    assert store._file.closed


def test_the_last_disk_of_a_store_closes_its_file() -> None:
    disk = StoredDisk(MIB)
    disk.write(0, b"x")
    store = disk._store
    assert store is not None
    twin = disk.copy()
    disk.close()
    disk.close()
    assert twin.read(0, 1) == b"x"
    assert not store._file.closed
    twin.close()
    assert store._file.closed


def test_a_disk_that_holds_nothing_may_be_forgotten() -> None:
    disk = PatternDisk(MIB, "key")
    disk.read(0, 512)
    del disk
    gc.collect()


def test_a_closed_disk_refuses_everything() -> None:
    with StoredDisk(MIB) as disk:
        pass
    for use in (lambda: disk.read(0, 1), disk.copy, disk.allocated, lambda: list(disk.blocks(512))):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"):
        disk.write(0, b"x")


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, MIB + 1), (MIB, 1), (5, -1)])
def test_reads_and_writes_outside_are_refused(offset: int, length: int) -> None:
    with StoredDisk(MIB) as disk:
        with pytest.raises(ValueError, match="not within"):
            disk.read(offset, length)
        if length > 0:
            with pytest.raises(ValueError, match="not within"):
                disk.write(offset, b"x" * length)


@pytest.mark.parametrize("size", [0, -512, 513])
def test_sizes_are_positive_multiples_of_a_sector(size: int) -> None:
    with pytest.raises(ValueError, match="512"):
        StoredDisk(size)


def test_reading_a_pattern_is_about_as_fast_as_copying_memory() -> None:
    disk = PatternDisk(256 * MIB, "key")
    disk.read(0, MIB)
    started = time.perf_counter()
    for offset, holds in disk.blocks(MIB):
        if holds:
            disk.read(offset, MIB)
    # A tenth of what is expected of it, so that a busy machine does not fail the test.
    assert disk.allocated() / (time.perf_counter() - started) > 100e6
