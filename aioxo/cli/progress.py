"""The progress of one transfer: a bar where somebody looks, plain lines where nobody does.

At a terminal the bar has size, rate and time left, and goes on moving while the server keeps us waiting for the first
byte. In a log there is a line at most every `LOG_INTERVAL` seconds, so that a transfer of hours leaves a trace and one
of a second leaves none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, Self

from .text import duration, rate, safe, size

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress as Display
    from rich.progress import TaskID

    from aioxo.models import Progress

__all__ = ["Bar"]

LOG_INTERVAL: Final = 5.0


def amount(progress: Progress) -> str:
    """Return how far a transfer is: "12.0 of 64.0 MiB", or what came when nobody knows how much there is."""
    if progress.total is None:
        return size(progress.bytes)
    total = size(progress.total)
    done = size(progress.bytes)
    if done.split()[-1] == total.split()[-1]:
        done = done.split()[0]
    return f"{done} of {total}"


def detail(progress: Progress) -> str:
    """Return amount, rate and time left, or what is being waited for."""
    if progress.stage == "waiting":
        return "waiting for the server"
    text = f"{amount(progress)}  {rate(progress.rate)}"
    if progress.stage == "finishing":
        return f"{text}  finishing"
    if progress.stage == "done":
        return f"{text}  {duration(progress.seconds)}"
    remaining = progress.remaining
    return text if remaining is None else f"{text}  {duration(max(1, remaining))} left"


class Bar:
    """Shows one transfer; give `update` as its ``progress=`` inside the ``with``.

    Attributes:
        last: the last progress that was told, or None.
    """

    def __init__(self, label: str, console: Console | None = None, *, indent: str = "") -> None:
        """Make a bar on `console`, or on stderr; a console that is no terminal gets lines."""
        from .render import console_for  # noqa: PLC0415 - brings rich only now

        self.last: Progress | None = None
        self._label = safe(label)
        self._indent = indent
        self._console = console or console_for(sys.stderr)
        self._display: Display | None = None
        self._task: TaskID | None = None
        self._told = 0.0

    def __enter__(self) -> Self:
        # A recording would keep every frame.
        if self._console.is_terminal and not self._console.record:
            from rich.progress import BarColumn, TextColumn  # noqa: PLC0415 - only at a terminal
            from rich.progress import Progress as Display  # noqa: PLC0415

            self._display = Display(
                TextColumn(self._indent + "{task.description}", markup=False),
                BarColumn(bar_width=24, complete_style="cyan", finished_style="green", pulse_style="cyan"),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self._console,
                transient=True,
                expand=False,
            )
            self._task = self._display.add_task(self._fitted(), total=None, detail="")
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()

    def _fitted(self) -> str:
        """Return the label, short enough for bar and numbers to stand beside it."""
        from rich.cells import set_cell_size  # noqa: PLC0415 - only at a terminal

        room = max(8, min(len(self._label), self._console.width - len(self._indent) - 24 - 44))
        return self._label if len(self._label) <= room else set_cell_size(self._label, room - 1) + "…"

    def update(self, progress: Progress) -> None:
        """Show how far it is."""
        self.last = progress
        if self._display is not None and self._task is not None:
            self._display.update(self._task, completed=progress.bytes, total=progress.total, detail=detail(progress))
        elif progress.stage == "transferring" and progress.seconds - self._told >= LOG_INTERVAL:
            self._told = progress.seconds
            self._console.print(f"{self._indent}{self._label}: {detail(progress)}")
