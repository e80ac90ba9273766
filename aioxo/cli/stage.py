"""Where the demo tells its story: headings, facts and bars on a console, and the tally of what went over the wire.

At a terminal there are colours and bars; anywhere else the same lines stand plain, in ASCII where the encoding asks for
it, so that a captured run reads as a log.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .progress import Bar
from .text import count, duration, folded, rate, safe, size

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from rich.console import Console
    from rich.text import Text

    from aioxo.models import Transfer

__all__ = ["Stage", "Tally"]

INDENT: Final = "  "


@dataclass(slots=True)
class Tally:
    """What went over which transport, as this side saw it.

    Attributes:
        records: records that came as NDJSON.
        down: bytes of disk images received.
        up: bytes of disk images sent.
        changes: changes by kind.
    """

    records: int = 0
    down: int = 0
    up: int = 0
    changes: dict[str, int] = field(default_factory=dict)


class Stage:
    """Tells the story on one console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._chapter = 0

    def title(self, text: str, what: str) -> None:
        """Begin."""
        from rich.text import Text  # noqa: PLC0415 - only the demo needs it

        self.console.print(Text.assemble((text, "bold"), "  ", (what, "bright_black")))

    def heading(self, text: str) -> None:
        """Begin the next chapter."""
        from rich.text import Text  # noqa: PLC0415 - only the demo needs it

        self._chapter += 1
        self.console.print()
        self.console.print(Text.assemble((f"{self._chapter} ", "bold cyan"), (text, "bold")))

    def say(self, text: str | Text, style: str = "") -> None:
        """Say one line."""
        from rich.text import Text  # noqa: PLC0415 - only the demo needs it

        self.console.print(Text(INDENT).append_text(Text(text, style=style) if isinstance(text, str) else text))

    def facts(self, **facts: str) -> None:
        """Say what is what, a line each; the names' underscores are blanks."""
        from rich.text import Text  # noqa: PLC0415 - only the demo needs it

        width = max(map(len, facts))
        room = self.console.width - len(INDENT) if self.console.is_terminal else sys.maxsize
        for name, value in facts.items():
            shown = f"{name.replace('_', ' '):<{width}}  "
            first, *rest = folded(shown + value, room, indent=len(shown)).split("\n")
            self.say(Text.assemble((first[: len(shown)], "bright_black"), first[len(shown) :]))
            for line in rest:
                self.say(line)

    def success(self, text: str) -> None:
        """Say that something is as it should be."""
        self.say(f"{self._mark()}{text}", "bold green")

    def _mark(self) -> str:
        # A log is read by anything.
        return "✓ " if self.console.is_terminal and self.console.encoding.startswith("utf") else ""

    @contextlib.contextmanager
    def bar(self, label: str) -> Iterator[Bar]:
        """Show a transfer while it lasts; when it has ended, its last state stays."""
        with Bar(label, self.console, indent=INDENT) as bar:
            yield bar
        last = bar.last
        if last is None:
            return
        amount = f"{size(last.bytes)} in {duration(last.seconds)}, {rate(last.rate)}"
        if self.console.is_terminal:
            from rich.text import Text  # noqa: PLC0415 - only a terminal needs it

            line = "━" if self.console.encoding.startswith("utf") else "-"
            self.say(Text.assemble((line * 24, "green"), "  ", amount))
        else:
            self.say(amount)

    def transferred(self, done: Transfer) -> None:
        """Say what a transfer was checked for, and its hash."""
        self.facts(checked=", ".join(done.checks) or "nothing", sha256=done.sha256)

    def changes(self, kinds: Counter[str], seconds: float, *, hidden: int) -> None:
        """Say how many changes of which kind there were."""
        total = sum(kinds.values()) - kinds["gap"]
        if hidden:
            self.say(f"and {hidden} more", "bright_black")
        by_kind = ", ".join(f"{kinds[kind]} {kind}" for kind in ("enter", "update", "exit"))
        gaps = count(kinds["gap"], "gap") if kinds["gap"] else "no gap"
        self.say(f"{count(total, 'change')} in {seconds:.1f} s: {by_kind}; {gaps}")

    def summary(
        self, tally: Tally, *, requests: int, connections: int, calls: int, notifications: int, seconds: float
    ) -> None:
        """Say what went over which transport."""
        from rich.text import Text  # noqa: PLC0415 - only the demo needs it

        rows = [
            ("REST", "requests", count(requests)),
            ("NDJSON", "records, one by one", count(tally.records)),
            ("disk images", "received", f"{count(tally.down)} bytes ({size(tally.down)})"),
            ("", "sent", f"{count(tally.up)} bytes ({size(tally.up)})"),
            ("websocket", "connections", count(connections)),
            ("", "calls", count(calls)),
            ("", "notifications", count(notifications)),
            ("", "changes in them", count(sum(tally.changes.values()))),
        ]
        for transport, what, value in rows:
            self.say(Text.assemble((f"{transport:<13}", "cyan"), (f"{what:<21}", "bright_black"), value))
        self.console.print()
        self.success(f"done in {seconds:.1f} s")


def elapsed(start: float) -> float:
    """Return seconds since `start`, a reading of `time.monotonic`."""
    return time.monotonic() - start


def per_second(number: int, seconds: float) -> str:
    """Return a rate of things, such as "12,345 a second"."""
    return f"{count(round(number / seconds))} a second" if seconds > 0 else "at once"


def named(text: object) -> str:
    """Return a server's name for something in quotes, harmless."""
    return f'"{safe(text)}"'
