"""What a scan of a cache found, with its uncertainty and with what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tasks.ttl.scanning import Ended

CONFIDENCE: Final = 0.95
"""That all intervals of one scan hold together, not only each by itself."""

Place = Literal["primary", "replica"]
How = Literal["script", "pipeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and the interval that it stands for; of one point where it was counted."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Of the interval, as a share of the value; 0 where it was counted."""
        if self.high == self.low:
            return 0.0
        return (self.high - self.low) / (2 * self.value) if self.value else float("inf")

    def to_json(self) -> dict[str, float]:
        """Give it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """How something is spread over the sampled keys, in seconds."""

    p10: float
    p50: float
    p90: float
    p99: float
    keys: int
    """Sampled keys that had it."""

    def to_json(self) -> dict[str, float]:
        """Give it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyScan:
    """A family of keys, as it lies in the cache."""

    family: str
    sampled: int
    """Distinct keys of it that were seen."""
    keys: Estimate
    size_bytes: Estimate | None
    """Keys and values with what the server needs to find them, as `MEMORY USAGE … SAMPLES 5` tells; not the tables
    of the database nor the fragmentation. None where that was barred, or no key was seen."""
    without_ttl: Estimate | None
    """Share of its keys that stay until somebody deletes them."""
    ttl_left_s: Quantiles | None
    """Of the keys that expire. What they were given at first no server knows."""
    idle_s: Quantiles | None
    """Since the last access on the primary; None under a policy of least frequent use, which keeps no times."""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "sampled": self.sampled,
            "keys": self.keys.to_json(),
            "bytes": _json(self.size_bytes),
            "without_ttl": _json(self.without_ttl),
            "ttl_left_s": _json(self.ttl_left_s),
            "idle_s": _json(self.idle_s),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What the scan did to one server, and what that server's counters say without it."""

    place: Place
    commands: Mapping[str, int]
    """Own commands by name, those inside of scripts included."""
    server_ms: float | None
    """Time of the server for them, from its own statistics; None where those were reset meanwhile. Commands that others
    use as well are shared out by the number of calls."""
    keys_touched: int
    hits_added: int
    """To `keyspace_hits`, by own lookups: PTTL and OBJECT IDLETIME count as hits of the cache."""
    misses_added: int
    others_hits: int | None
    """What `keyspace_hits` grew by during the scan, without `hits_added`; None where it was reset meanwhile."""
    others_misses: int | None
    kept_idle_times: bool
    """Whether the server was told not to touch idle times (`CLIENT NO-TOUCH`); none of the commands does either way."""
    pages: int
    page_ms_p50: float
    page_ms_p99: float
    page_ms_max: float
    duty: float
    """Share of the time in which the server was busy with pages, seen from here: network and waiting included."""
    seconds: float
    paused_s: Mapping[str, float]
    """Reason to how long the scan stood back for it."""
    ping_before_ms_p99: float
    ping_during_ms_p99: float

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {**asdict(self), "commands": dict(self.commands), "paused_s": dict(self.paused_s)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """All families of a cache."""

    began_at: datetime
    version: str
    policy: str
    """What the server does when its memory is full."""
    how: How
    place: Place
    """Where keys, bytes and times to live were looked at."""
    ended: Ended
    sampled: int
    """Distinct keys that were seen."""
    duplicates: int
    """Keys that the server gave again, as SCAN may; they count once."""
    vanished: int
    """Keys that were gone before they could be looked at."""
    keys: Estimate
    """In the database, without those that are expired and not deleted yet."""
    families: Sequence[FamilyScan]
    footprints: Sequence[Footprint]
    not_covered: Sequence[str]
    """What this scan cannot say, in sentences."""
    notes: Sequence[str]
    """What went another way than asked for, in sentences."""

    @property
    def is_complete(self) -> bool:
        """Whether every key was seen: figures are counted then, not estimated."""
        return self.ended == "complete"

    def family(self, name: str) -> FamilyScan:
        """Give a family.

        Raises:
            KeyError: it is none of those that were asked for.
        """
        return {one.family: one for one in self.families}[name]

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON, for the study and for `--json`."""
        return {
            "began_at": self.began_at.isoformat(),
            "version": self.version,
            "policy": self.policy,
            "how": self.how,
            "place": self.place,
            "ended": self.ended,
            "complete": self.is_complete,
            "confidence": CONFIDENCE,
            "sampled": self.sampled,
            "duplicates": self.duplicates,
            "vanished": self.vanished,
            "keys": self.keys.to_json(),
            "families": {one.family: one.to_json() for one in self.families},
            "footprints": [one.to_json() for one in self.footprints],
            "not_covered": list(self.not_covered),
            "notes": list(self.notes),
        }


def _json(one: Estimate | Quantiles | None) -> dict[str, float] | None:
    return None if one is None else one.to_json()
