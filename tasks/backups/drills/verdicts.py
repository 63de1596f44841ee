"""What a drill found, and what follows from it: pure, and zero tolerance.

    pass           everything is equal, and every mutant was noticed
    fail           something is not what was written down when it was captured: the point is damaged
    inconclusive   the drill itself cannot be trusted: it could not look, or a mutant went unnoticed

Inconclusive is no pass and no fail: it says nothing of the backup, and somebody has to look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Artefact = Literal["sqlite", "postgresql", "redis", "files", "model", "chain", "vault", "key", "invariants"]
"""What a check looks at and a mutant damages."""

ARTEFACTS: tuple[Artefact, ...] = get_args(Artefact)


class Verdict(StrEnum):
    """What a drill says of a point."""

    PASS = "pass"  # noqa: S105  no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that was compared."""

    name: str
    """Artefact and what of it, such as `sqlite.content` or `usage.hours-sum-to-counts`."""
    artefact: Artefact
    examined: int
    """How many rows, keys, files or bytes were looked at; 0 is told as 0, and is no pass."""
    unit: str = "rows"
    differences: Sequence[str] = ()
    """What is not as it was, in words; a few of them, if there are many."""
    unable: str = ""
    """Why nothing could be looked at; empty if it could."""

    @property
    def is_equal(self) -> bool:
        """Whether something was looked at, and all of it was equal."""
        return self.examined > 0 and not self.differences and not self.unable

    @property
    def outcome(self) -> Literal["equal", "differs", "unable", "nothing to compare"]:
        """Say in a word what came out."""
        if self.differences:
            return "differs"
        if self.unable:
            return "unable"
        return "equal" if self.examined else "nothing to compare"

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `drill --json` documents."""
        return {
            "name": self.name,
            "artefact": self.artefact,
            "outcome": self.outcome,
            "examined": self.examined,
            "unit": self.unit,
            "differences": list(self.differences),
            "unable": self.unable,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantResult:
    """What became of a damaged copy."""

    name: str
    """Artefact and damage, such as `sqlite.drop-a-row`."""
    artefact: Artefact
    noticed_by: Sequence[str] = ()
    """Names of the checks that rejected it; none: it survived."""
    not_possible: str = ""
    """Why there was nothing to damage in this way; such a mutant does not count."""

    @property
    def is_killed(self) -> bool:
        """Whether a check rejected it."""
        return bool(self.noticed_by)

    @property
    def survived(self) -> bool:
        """Whether the damage was done and nobody noticed."""
        return not self.noticed_by and not self.not_possible

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `drill --json` documents."""
        return {
            "name": self.name,
            "artefact": self.artefact,
            "noticed_by": list(self.noticed_by),
            "not_possible": self.not_possible,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillRate:
    """How many mutants were rejected, of those that could be made."""

    killed: int
    total: int
    survivors: Sequence[str] = field(default_factory=tuple)

    def __str__(self) -> str:
        return f"{self.killed}/{self.total}"

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `drill --json` documents."""
        return {"killed": self.killed, "total": self.total, "survivors": list(self.survivors)}


def kill_rate(mutants: Sequence[MutantResult]) -> KillRate:
    """Count them."""
    made = [mutant for mutant in mutants if not mutant.not_possible]
    survivors = tuple(mutant.name for mutant in made if not mutant.is_killed)
    return KillRate(killed=len(made) - len(survivors), total=len(made), survivors=survivors)


def kill_table(mutants: Sequence[MutantResult]) -> Mapping[Artefact, KillRate]:
    """Count them by what they damage, in the order of `ARTEFACTS`; what has none is left out."""
    by_artefact = {one: [mutant for mutant in mutants if mutant.artefact == one] for one in ARTEFACTS}
    return {one: kill_rate(some) for one, some in by_artefact.items() if some}


def judge(checks: Sequence[Check], mutants: Sequence[MutantResult]) -> Judgement:
    """Decide. A difference outweighs everything: what is damaged stays damaged however little else could be seen."""
    if differing := [check for check in checks if check.differences]:
        first = differing[0]
        more = f" (and {len(differing) - 1} more checks differ)" if len(differing) > 1 else ""
        return Judgement(verdict=Verdict.FAIL, reason=f"{first.name}: {first.differences[0]}{more}")
    if unable := [check for check in checks if check.unable]:
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=f"{unable[0].name} could not look: {unable[0].unable}")
    equal = [check for check in checks if check.is_equal]
    if not equal:
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason="there was nothing to compare")
    rate = kill_rate(mutants)
    if rate.survivors:
        reason = f"{len(rate.survivors)} of {rate.total} mutants went unnoticed, the first is {rate.survivors[0]}"
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)
    if not rate.total:
        return Judgement(
            verdict=Verdict.INCONCLUSIVE, reason="no mutant could be made: nothing says that the drill sees"
        )
    empty = sum(check.outcome == "nothing to compare" for check in checks)
    beside = f", {empty} had nothing to compare" if empty else ""
    reason = f"{len(equal)} checks equal{beside}, {rate} mutants rejected"
    return Judgement(verdict=Verdict.PASS, reason=reason)
