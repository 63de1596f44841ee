"""A history of restore points in accelerated time: nights go by in seconds, and everything else is real."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from freezegun import freeze_time

from nightcrew.messages import PruneVault, RunFullBackup, RunIncrementalBackup
from tasks.runtime import ProfileOptions, RetentionOptions
from tests.integration.tasks.backups.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightcrew.messages import Message
    from tasks.runtime import BackupOptions

BEGIN = datetime(2026, 1, 4, 1, 30, tzinfo=UTC)
"""A Sunday."""
_DAYS = 7
_DIFFERENTIALS = 10


@dataclass
class AgingCrew(Crew):
    """Takes points at moments of the test's choice."""

    daily: int = 40
    weekly: int = 26
    monthly: int = 12

    @property
    def options(self) -> BackupOptions:
        kept = RetentionOptions(daily=self.daily, weekly=self.weekly, monthly=self.monthly)
        profiles = {"default": ProfileOptions(retention=kept)}
        return replace(super().options, profiles=profiles, most_chain_share=50.0, drill_after_full=False)

    def live(self, days: int) -> None:
        """Let so many nights go by: a full on each Sunday, what it takes on the others, and a prune a week."""
        for day in range(days):
            with at(BEGIN + timedelta(days=day)):
                self.change_some()
                self.run(self._message(day))
                if day % _DAYS == _DAYS - 1:
                    self.run(PruneVault())

    def _message(self, day: int) -> Message:
        if day % _DAYS == 0:
            return RunFullBackup()
        return RunIncrementalBackup(base="full" if day % _DIFFERENTIALS == 0 else "previous")


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Let it be a moment, from which on time goes by as it does."""
    with freeze_time(moment, tick=True):
        yield
