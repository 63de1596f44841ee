"""Settings of the access log: how long what apps asked of their cache is kept, and how much of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from tasks.runtime import AccessOptions
from workers.settings.section import Retention, Section, Unit

# The defaults stand once, where the jobs that use them can see them.
_ACCESS = AccessOptions()

_DAY_S = 24 * 60 * 60


class AccessSettings(Section):
    """The log of what apps ask of their cache, and the counters made of it."""

    collect_entries: Annotated[int, Field(ge=1, le=10_000), Unit("log entries")] = _ACCESS.collect_entries
    """Entries of the log that are added up in one transaction."""
    keep_log_s: Annotated[float, Field(ge=3600, le=30 * _DAY_S), Unit("seconds")] = _ACCESS.keep_log.total_seconds()
    """How long the log keeps its entries, and with them the sample of single requests (hashes of keys, never keys) that the study of times to live reads."""  # noqa: E501
    log_cap_bytes: Annotated[int, Field(ge=1024 * 1024), Unit("bytes")] = _ACCESS.log_cap_bytes
    """What the log may hold at most. Beyond it the oldest entries go earlier; what was not counted by then is told as dropped."""  # noqa: E501
    keep_hours_s: Retention = _ACCESS.keep_hours.total_seconds()
    """How long the hourly counters of each family of the cache are kept."""
    keep_producers_s: Annotated[float, Field(ge=8 * _DAY_S), Unit("seconds")] = _ACCESS.keep_producers.total_seconds()
    """How long the last entry of each app's process is known; one that was sent again after that would count twice."""
    keep_incidents_s: Retention = _ACCESS.keep_incidents.total_seconds()
    """How long it is kept what happened to the log."""

    def options(self) -> AccessOptions:
        """Give what the jobs of the slice need to know."""
        return AccessOptions(
            collect_entries=self.collect_entries,
            keep_log=timedelta(seconds=self.keep_log_s),
            log_cap_bytes=self.log_cap_bytes,
            keep_hours=timedelta(seconds=self.keep_hours_s),
            keep_producers=timedelta(seconds=self.keep_producers_s),
            keep_incidents=timedelta(seconds=self.keep_incidents_s),
        )
