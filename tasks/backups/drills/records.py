"""What is written down of a drill."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from tasks.backups.drills.verdicts import Check, MutantResult, Verdict, kill_rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.backups.points import Kind

MODEL_LOAD: Final = "model.load"
"""The check that asks a model for its predictions, after its bytes were found equal."""

Way = Literal["warm", "cold", "disaster"]
"""With the crew's settings and cache · as on a bare machine · of a whole system that was destroyed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a restore took, in seconds; it begins when somebody asks for it, and ends when it is validated."""

    fetch_s: float
    """From the request until all members lie there with the right hash."""
    apply_s: float
    """Until database, dumps and files are put together."""
    validate_s: float
    """Until all checks have come out. The mutants are no part of it: no real restore waits for them."""

    @property
    def rto_s(self) -> float:
        """From request to validated."""
        return self.fetch_s + self.apply_s + self.validate_s

    def to_json(self) -> dict[str, float]:
        """Give it with the keys that `drill --json` documents."""
        return {"fetch": round(self.fetch_s, 3), "apply": round(self.apply_s, 3), "validate": round(self.validate_s, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A line of the timeline."""

    at: datetime
    says: str

    def to_json(self) -> dict[str, str]:
        """Give it with the keys that `drill --json` documents."""
        return {"at": self.at.isoformat(), "says": self.says}

    @classmethod
    def from_json(cls, values: Mapping[str, str]) -> Self:
        """Read what `to_json` gave."""
        return cls(at=datetime.fromisoformat(values["at"]), says=values["says"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One restore test from its request to its verdict."""

    id: int | None = None
    """Its number in the table; None before it is written down."""
    run_id: str | None
    way: Way
    point_id: str | None
    """None where no point could be chosen."""
    profile: str = ""
    kind: Kind | None = None
    sequence: int = 0
    """How many deltas were applied."""
    size_bytes: int = 0
    """What the restore wrote."""
    asked_at: datetime
    finished_at: datetime
    verdict: Verdict
    reason: str
    chosen_because: str = ""
    timing: Timing | None = None
    """None where the restore did not come to its end."""
    rpo_s: float | None = None
    """From the newest commit found in the restored data to the moment of the capture."""
    checks: Sequence[Check] = ()
    mutants: Sequence[MutantResult] = ()
    timeline: Sequence[Moment] = ()

    @property
    def is_damaged(self) -> bool:
        """Whether the point is not what was captured.

        It is, where only the invariants of the crew's own data differ, or what a model predicts whose bytes are equal:
        that was wrong before it was backed up, or comes of another library. Somebody is told all the same.
        """
        return any(
            check.differences and check.artefact != "invariants" and check.name != MODEL_LOAD for check in self.checks
        )

    def to_summary(self) -> dict[str, Any]:
        """Give the same as `to_json` without checks, mutants and timeline one by one."""
        whole = self.to_json()
        mutants = {name: value for name, value in whole["mutants"].items() if name != "each"}
        return {name: value for name, value in whole.items() if name not in {"checks", "timeline"}} | {
            "mutants": mutants
        }

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `drill --json` documents."""
        return {
            "id": self.id,
            "run_id": self.run_id,
            "way": self.way,
            "point": self.point_id,
            "profile": self.profile,
            "kind": self.kind,
            "sequence": self.sequence,
            "size_bytes": self.size_bytes,
            "asked_at": self.asked_at.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "verdict": self.verdict.value,
            "reason": self.reason,
            "chosen_because": self.chosen_because,
            "seconds": None if self.timing is None else self.timing.to_json(),
            "rto_s": None if self.timing is None else round(self.timing.rto_s, 3),
            "rpo_s": self.rpo_s,
            "checks": [check.to_json() for check in self.checks],
            "mutants": kill_rate(self.mutants).to_json() | {"each": [mutant.to_json() for mutant in self.mutants]},
            "timeline": [moment.to_json() for moment in self.timeline],
        }
