"""Measurements: each in a fresh process, taken in turns, summed up by medians.

A subject is an async function ``subject(meter, url, **arguments)`` that brings itself to the starting line, does its
work inside ``with meter:`` and cleans up after it. `measure` runs one in a process of its own, so that nothing is warm
or left over, and so that the process's peak of memory is the subject's. The processes of a comparison take turns, and
a comparison is made within a round: whatever slows the machine for a while slows both of its sides.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    Subject = Callable[..., Awaitable[None]]

__all__ = ["ROOT", "Meter", "Sample", "Spread", "measure", "ratios", "take_turns"]

#: Where ``python -m benchmarks`` works.
ROOT: Final = Path(__file__).resolve().parent.parent


class Meter:
    """Clocks of the part of a subject that counts.

    Attributes:
        wall: seconds inside the ``with``.
        cpu: seconds of processor time, of all threads, user and system.
        facts: what else the subject wants known: numbers by name.
    """

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0
        self.facts: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.cpu = -time.process_time()
        self.wall = -time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds, seconds, and the most memory the process ever had, in bytes; see `Meter`."""

    wall: float
    cpu: float
    peak: int
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, and how far they reach."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Self:
        """Sum up at least one number."""
        values = list(numbers)
        return cls(median(values), min(values), max(values))

    def text(self, form: str = ".2f") -> str:
        """Write it as "1.02 (0.98 to 1.05)"."""
        return f"{self.middle:{form}} ({self.least:{form}} to {self.most:{form}})"


def measure(subject: Subject, url: str, **arguments: Any) -> Sample:
    """Run one subject in a fresh process and return what it measured.

    Args:
        subject: a function at the top of its module.
        url: of the peer.
        arguments: passed on; JSON must be able to say them.

    Raises:
        RuntimeError: the subject failed; the message has what it printed.
    """
    command = [sys.executable, "-c", "from benchmarks.measure import main; main()"]
    task = {"module": subject.__module__, "name": subject.__name__, "arguments": {"url": url, **arguments}}
    done = subprocess.run([*command, json.dumps(task)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{subject.__name__} of {subject.__module__} failed:\n{done.stderr}"
        raise RuntimeError(message)
    return Sample(**json.loads(done.stdout))


def take_turns(rounds: int, *takes: Callable[[], Sample]) -> list[list[Sample]]:
    """Take each measurement once a round, in an order that turns around every time; return the samples of each take."""
    samples: list[list[Sample]] = [[] for _ in takes]
    for round_ in range(rounds):
        order = range(len(takes)) if round_ % 2 == 0 else reversed(range(len(takes)))
        for index in order:
            samples[index].append(takes[index]())
    return samples


def ratios(dividends: Sequence[Sample], divisors: Sequence[Sample], value: Callable[[Sample], float]) -> Spread:
    """Divide `value` of one subject by that of another, round by round."""
    return Spread.of(value(one) / value(other) for one, other in zip(dividends, divisors, strict=True))


def main() -> None:
    """Be the fresh process: run the subject that the argument names and print its sample."""
    task = json.loads(sys.argv[1])
    subject: Subject = getattr(importlib.import_module(task["module"]), task["name"])
    meter = Meter()

    async def run() -> None:
        await subject(meter, **task["arguments"])

    asyncio.run(run())
    print(json.dumps({"wall": meter.wall, "cpu": meter.cpu, "peak": _peak_memory(), "facts": meter.facts}))


def _peak_memory() -> int:
    """Return the most memory this process has had, in bytes.

    From /proc, so on Linux alone: the portable ru_maxrss starts with what the parent process had.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
