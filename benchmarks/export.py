"""How fast is a disk exported to a file, beside a bare loop that writes what comes?

Question: 4 GiB of a raw disk, 64 KiB a chunk and without a length as Xen Orchestra sends them: does
``xo.vdis.export(id, path, format="raw")``, which also hashes, checks and flushes to the disk, reach 90 % of the rate of
a loop that only writes, or better? Does it take less than 64 MiB of memory, whatever the size?

Method: a peer in a process of its own sends the disk as fast as it is taken. Subjects, a fresh process each, take
turns, into the same directory; the file is removed after each and what was written is flushed before the next:

- bare: ``async for chunk in response.content.iter_any(): file.write(chunk)``, then ``os.fsync``, timed by itself
- hashing: the same with ``sha256.update(chunk)`` in the loop, which is what it takes to know what was written
- aioxo: ``xo.vdis.export``, the time inside its ``os.fsync`` noted
- aioxo with a quarter of the size, and aioxo connected but idle, for the memory

So both can be told with and without the flush. One run that does not count goes first: memory that a virtual machine
has not used for its page cache before is six times as slow to write to. The file system decides much: ``--directory``
names another.

Answer: the memory yes; the rate not surely. The process never had more than 53 MiB, 13 more than an idle client, and
within 2.3 MiB the same for 1 and 4 GiB. The rate depends on who else wants the two cores it was measured on, which the
peer needs as well. In the one round that was quiet throughout, with 2 GiB, it was 0.89 of the bare loop's, the flushes
not counted; in rounds with a neighbour that kept a core busy mostly 0.5 to 0.85. The hash is the reason: 0.55 s of
processor time a GiB, where the bare loop takes 0.9 in all, so it needs much of a second core. Beside a bare loop that
hashes as well, it takes the same processor time, and was 1.5 times as fast in the quiet round, mostly 0.8 to 1.1 times
beside a neighbour.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import aiohttp

import aioxo

from .measure import Meter, Sample, Spread, measure, ratios, take_turns
from .peers import peer
from .report import MEBI, Answer, Report

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["aioxo_export", "aioxo_idle", "bare_export", "run"]

SIZE: Final = 4 * 2**30
TARGET: Final = 0.9
#: Most memory the library may take, in bytes.
MEMORY: Final = 64 * MEBI
#: Growth of the peak that is no growth, in bytes: how full the batches and the read buffer happened to be.
NOISE: Final = 4 * MEBI


async def bare_export(meter: Meter, url: str, path: str, size: int, *, hashed: bool = False) -> None:
    """Write what comes, and hash it first if told to."""
    sha256 = hashlib.sha256()
    async with aiohttp.ClientSession(cookies={"authenticationToken": "benchmark"}) as session:
        with meter, Path(path).open("xb") as file:  # noqa: ASYNC230 - it is what the loop does
            async with session.get(f"{url}/rest/v0/vdis/{size}.raw") as response:
                async for chunk in response.content.iter_any():
                    if hashed:
                        sha256.update(chunk)
                    file.write(chunk)
            file.flush()
            _timed_fsync(meter, os.fsync)(file.fileno())
    _remove(path, size)


async def aioxo_export(meter: Meter, url: str, path: str, size: int) -> None:
    """Export through the library."""
    async with aioxo.connect(url, token="benchmark") as xo:
        with meter, mock.patch.object(os, "fsync", _timed_fsync(meter, os.fsync)):
            done = await xo.vdis.export(str(size), path, format="raw")
    assert done.checks == ("length",)
    _remove(path, size)


async def aioxo_idle(meter: Meter, url: str) -> None:
    """Be connected."""
    async with aioxo.connect(url, token="benchmark") as xo:
        with meter:
            await xo.vdis.get("0")


def _timed_fsync(meter: Meter, fsync: Callable[[Any], None]) -> Callable[[Any], None]:
    meter.facts["fsync"] = 0.0

    def timed(descriptor: Any) -> None:
        started = time.perf_counter()
        fsync(descriptor)
        meter.facts["fsync"] += time.perf_counter() - started

    return timed


def _remove(path: str, size: int) -> None:
    assert Path(path).stat().st_size == size
    Path(path).unlink()


def _settled(take: Callable[[], Sample]) -> Sample:
    """Start with nothing left to write by whoever came before."""
    os.sync()
    return take()


def run(*, rounds: int = 3, size: int = SIZE, directory: str | None = None) -> Report:
    """Compare the two, then look at the memory.

    Args:
        rounds: times each subject runs.
        size: of the disk in bytes; a multiple of 256 KiB.
        directory: to write to, which needs room for one disk; None for the system's temporary one.
    """
    with tempfile.TemporaryDirectory(prefix="aioxo-benchmark-", dir=directory) as place, peer() as url:
        path = str(Path(place, "disk.raw"))
        measure(bare_export, url, path=path, size=size)
        bare, hashed, ours, quarter, idle = take_turns(
            rounds,
            partial(_settled, partial(measure, bare_export, url, path=path, size=size)),
            partial(_settled, partial(measure, bare_export, url, path=path, size=size, hashed=True)),
            partial(_settled, partial(measure, aioxo_export, url, path=path, size=size)),
            partial(_settled, partial(measure, aioxo_export, url, path=path, size=size // 4)),
            partial(measure, aioxo_idle, url),
        )
    report = Report(f"export: a raw disk of {size / 2**30:.3g} GiB to a file")
    report.add("bare aiohttp, `file.write` and fsync", bare, size / MEBI, "MiB")
    report.add("the same, hashing each chunk", hashed, size / MEBI, "MiB")
    report.add("aioxo, `xo.vdis.export`", ours, size / MEBI, "MiB")
    report.add("aioxo, a quarter of the size", quarter, size / 4 / MEBI, "MiB")
    report.add("aioxo, idle", idle, 0, "MiB")
    report.answers += _answers(bare, hashed, ours, idle, quarter)
    return report


def _answers(
    bare: list[Sample], hashed: list[Sample], ours: list[Sample], idle: list[Sample], quarter: list[Sample]
) -> list[Answer]:
    def unflushed(sample: Sample) -> float:
        return sample.wall - sample.facts["fsync"]

    without = ratios(bare, ours, unflushed)
    both = ratios(bare, ours, lambda sample: sample.wall)
    against = Spread.of(unflushed(one) / other.wall for one, other in zip(bare, ours, strict=True))
    peak = max(sample.peak for sample in ours)
    above = peak - min(sample.peak for sample in idle)
    growth = int(median(one.peak - other.peak for one, other in zip(ours, quarter, strict=True)))
    return [
        Answer(
            "rate, aioxo / bare, neither's flush counted",
            without.text(),
            f"at least {TARGET}",
            without.middle >= TARGET,
        ),
        Answer("rate, aioxo / bare, both flushed", both.text(), f"at least {TARGET}", both.middle >= TARGET),
        Answer("rate, aioxo / bare that hashes, neither's flush counted", ratios(hashed, ours, unflushed).text()),
        Answer("rate, aioxo flushed / bare unflushed", against.text()),
        Answer("CPU time, aioxo / bare", ratios(ours, bare, lambda sample: sample.cpu).text()),
        Answer("peak memory of the process", f"{peak / MEBI:.1f} MiB", "under 64 MiB", peak < MEMORY),
        Answer("peak memory above that of an idle client", f"{above / MEBI:.1f} MiB"),
        Answer(
            "peak memory, whole size less a quarter",
            f"{growth / MEBI:+.1f} MiB",
            f"at most {NOISE // MEBI} MiB",
            growth <= NOISE,
        ),
    ]
