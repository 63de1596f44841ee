"""Retry policies by name: how often a job is tried, and how long it waits in between.

Exponential with jitter, after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015, "equal jitter"): half
of the delay is certain, the other half random, so that jobs that failed together do not come back together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


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

QUICK: Final = RetryPolicy(max_attempts=3, first_delay=timedelta(seconds=1), longest_delay=timedelta(seconds=5))
"""For work that somebody waits for: it gets through within seconds, or they are told."""

PATIENT: Final = RetryPolicy(max_attempts=10, first_delay=timedelta(minutes=1), longest_delay=timedelta(hours=1))
"""For work that outlasts an outage of some hours, such as a delivery to a server that is not ours."""

ONCE: Final = RetryPolicy(max_attempts=1, first_delay=timedelta(0), longest_delay=timedelta(0))
"""For work that the next slot does again anyway."""

POLICIES: Final[Mapping[str, RetryPolicy]] = MappingProxyType(
    {"standard": STANDARD, "quick": QUICK, "patient": PATIENT, "once": ONCE}
)


def policy(name: str) -> RetryPolicy:
    """Find a policy by its name.

    Raises:
        LookupError: there is none; the text names those that there are.
    """
    try:
        return POLICIES[name]
    except KeyError:
        msg = f"no retry policy {name!r}; there are: {', '.join(POLICIES)}"
        raise LookupError(msg) from None
