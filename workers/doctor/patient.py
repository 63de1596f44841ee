"""Who is examined."""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING

from workers.doctor.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from schedules.entries import Entry
    from tasks.runtime import Runtime
    from workers.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A crew, whether it runs or not."""

    settings: Settings
    broker_url: str
    runtime: Runtime
    """Nothing of it needs to answer."""
    timetable: Mapping[str, Entry]
    started_at: datetime | None = None
    """When the crew started; None when that is not known."""
    limits: Limits = field(default_factory=Limits)
    answer_within_s: float = 1.0
    """How long workers are waited for."""

    @property
    def up(self) -> str:
        """The command that starts the crew."""
        return f"nightcrew up --data-dir {quote(str(self.settings.data_dir))}"
