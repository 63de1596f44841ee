"""When a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """The first restart is at once; those after it wait ever longer, until one run is stable again."""

    first_pause_s: float = 0.5
    """Before the second restart in a row."""
    factor: float = 2.0
    longest_pause_s: float = 30.0
    stable_after_s: float = 30.0
    """A run of this length ends the row."""

    def pause_s(self, failures: int) -> float:
        """Give the pause before the restart that follows the given number of deaths in a row (from 1)."""
        if failures <= 1:
            return 0.0
        # The exponent is bounded so that a row of any length stays a finite number.
        return min(self.longest_pause_s, self.first_pause_s * self.factor ** min(failures - 2, 64))

    def failures_after(self, failures: int, ran_s: float) -> int:
        """Give the deaths in a row, counting the one that ended a run of `ran_s`."""
        return 1 if ran_s >= self.stable_after_s else failures + 1


DEFAULT_POLICY: Final = RestartPolicy()
