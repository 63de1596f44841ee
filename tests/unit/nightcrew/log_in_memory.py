"""A usage log that keeps batches in a list, and a clock that stands where it is put."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightcrew._batch import Batch

HOUR = 500_000
"""An hour of the year 2027."""


class LogInMemory:
    """Takes batches as the script in Redis does: in order, each once. Unreachable while `away`."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.away = False
        self.lose_reply = False

    def append(self, batch: Batch) -> None:
        if self.away:
            raise ConnectionError("the log is away")
        last = max((known.seq for known in self.batches if known.producer == batch.producer), default=0)
        if batch.seq > last:
            self.batches.append(batch)
        if self.lose_reply:
            self.lose_reply = False
            raise ConnectionError("the reply got lost")

    def counts(self) -> Counter[tuple[int, str, str, str]]:
        """Sum up what arrived by hour, context, outcome and key."""
        counts: Counter[tuple[int, str, str, str]] = Counter()
        for batch in self.batches:
            for (hour, context, outcome), amounts in batch.groups:
                for key, amount in amounts.items():
                    counts[hour, context, outcome, key] += amount
        return counts

    def totals(self) -> Counter[str]:
        """Sum up by key."""
        totals: Counter[str] = Counter()
        for (_, _, _, key), amount in self.counts().items():
            totals[key] += amount
        return totals


class Clock:
    """Seconds since the epoch, set by hand."""

    def __init__(self) -> None:
        self.now = HOUR * 3600.0 + 60

    def __call__(self) -> float:
        return self.now
