"""How long to wait before trying again: a pure sequence of delays, its source of randomness passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with full jitter.

    The n-th delay is drawn evenly from zero to ``min(limit, first * factor ** n)``, but for the lower tenth: a thousand
    clients that lost the same server spread out instead of coming back together, and none comes back at once.

    Attributes:
        first: upper bound of the first delay, in seconds.
        factor: growth of the bound from one attempt to the next.
        limit: largest bound, in seconds.
    """

    first: float = 0.5
    factor: float = 1.8
    limit: float = 30.0

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait before attempt number `attempt` (0-based); `random` gives values in [0, 1)."""
        # The exponent is bounded so that a client that has tried for a year does not overflow a float.
        bound = min(self.limit, self.first * self.factor ** min(attempt, 64))
        return bound * (0.1 + 0.9 * random())
