"""Retry policies by name: how often a job is tried, and how long it waits in between.

Exponential with jitter, after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015, "equal jitter"): half
of the delay is certain, the other half random, so that jobs that failed together do not come back together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon."""

    max_attempts: int | None
    """Attempts in all, the first one included; None leaves it to the setting of the ledger."""
    first_delay: timedelta
    longest_delay: timedelta

    def delay_after(self, attempt: int, *, chance: float) -> timedelta:
        """Give the wait after an attempt (from 1) failed; `chance` from 0 to 1 is the jitter."""
        # 2**30 first delays are longer than any longest delay, and larger powers overflow a timedelta.
        full: timedelta = min(self.first_delay * 2 ** min(attempt - 1, 30), self.longest_delay)
        return full / 2 + full / 2 * chance


STANDARD: Final = RetryPolicy(max_attempts=None, first_delay=timedelta(seconds=4), longest_delay=timedelta(minutes=10))
"""For work that should get through in the end."""

ONCE: Final = RetryPolicy(max_attempts=1, first_delay=timedelta(0), longest_delay=timedelta(0))
"""For work that the next slot does again anyway."""
