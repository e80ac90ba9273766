"""Counting a transfer's bytes, and telling a callback at a bounded rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .models import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Meter", "ProgressCallback"]

ProgressCallback: TypeAlias = "Callable[[Progress], object]"

#: Least seconds between two calls of a progress callback.
PROGRESS_INTERVAL: Final = 0.1


class Meter:
    """How far a transfer is.

    Attributes:
        total: bytes in all, or None as long as nobody knows.
        bytes: bytes so far.
    """

    def __init__(self, total: int | None, callback: ProgressCallback | None) -> None:
        self.total = total
        self.bytes = 0
        self._callback = callback
        self._started = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the transfer began."""
        return time.monotonic() - self._started

    def advance(self, count: int) -> None:
        """Count bytes, and tell the callback if it is time."""
        self.bytes += count
        if self._callback is not None and (now := time.monotonic()) - self._told >= PROGRESS_INTERVAL:
            self._told = now
            self.report("transferring")

    def report(self, stage: Any) -> None:
        """Tell the callback now; `stage` is one of `Progress`'s."""
        if self._callback is not None:
            self._callback(Progress(stage=stage, bytes=self.bytes, total=self.total, seconds=self.seconds))
