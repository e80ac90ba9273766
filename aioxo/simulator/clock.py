"""The simulator's wall clock, which tests can move forward instead of waiting."""

from __future__ import annotations

import time


class Clock:
    """Unix time plus an offset. Everything the simulator stamps or lets expire reads this clock."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = 0.0

    def time(self) -> float:
        """Return the Unix time in seconds."""
        return time.time() + self._offset

    def milliseconds(self) -> int:
        """Return the Unix time in whole milliseconds, the unit of Xen Orchestra's own records."""
        return int(self.time() * 1000)

    def advance(self, seconds: float) -> None:
        """Move the clock `seconds` (0 or more) forward; timers that already run are not affected."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._offset += seconds
