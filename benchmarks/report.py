"""Results, as text for a terminal and as the part of README.md that a run writes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .measure import Spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .measure import Sample

__all__ = ["README", "Answer", "Report", "insert", "machine", "markdown"]

README: Final = Path(__file__).with_name("README.md")
_START, _END = "<!-- results: python -m benchmarks --write -->\n", "<!-- end of results -->\n"
MEBI: Final = 2**20


@dataclass(frozen=True)
class Answer:
    """What a benchmark was to find out, what was measured, and what it had to be: empty when it is only told."""

    question: str
    measured: str
    wanted: str = ""
    met: bool = True

    @property
    def verdict(self) -> str:
        """Whether it was what it had to be, as text."""
        return "" if not self.wanted else "yes" if self.met else "**no**"


@dataclass
class Report:
    """What one benchmark found.

    Attributes:
        title: what was done, with its size.
        rows: subject, seconds, seconds of processor time, rate, peak of memory; all as text.
        answers: the comparisons.
    """

    title: str
    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def add(self, subject: str, samples: Sequence[Sample], amount: float, unit: str) -> None:
        """Add the row of one subject; its rate is `amount` of `unit` over the wall time."""
        wall = Spread.of(sample.wall for sample in samples)
        self.rows.append(
            (
                subject,
                wall.text(),
                Spread.of(sample.cpu for sample in samples).text(),
                f"{amount / wall.middle:,.0f} {unit}/s",
                f"{max(sample.peak for sample in samples) / MEBI:.1f} MiB",
            )
        )


def machine() -> str:
    """Describe the machine and the versions in a line."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("aioxo", "aiohttp", "orjson")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}; {', '.join(versions)}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def markdown(reports: Sequence[Report]) -> str:
    """Write reports as Markdown, the machine first."""
    lines = [f"Machine: {machine()}.", ""]
    for report in reports:
        lines += [f"### {report.title}", ""]
        lines += _table(("subject", "seconds", "CPU seconds", "rate", "peak memory"), report.rows)
        lines += _table(
            ("question", "measured", "wanted", "met"),
            [(answer.question, answer.measured, answer.wanted, answer.verdict) for answer in report.answers],
        )
    return "\n".join(lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def insert(text: str, path: Path = README) -> None:
    """Replace the results in README.md."""
    before, _, rest = path.read_text(encoding="utf-8").partition(_START)
    _, _, after = rest.partition(_END)
    path.write_text(f"{before}{_START}\n{text}{_END}{after}", encoding="utf-8")
