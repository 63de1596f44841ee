"""Of what kind the next restore point is: a delta where that is safe, a full wherever there is a doubt.

`decide_kind` looks at the points, `confirm` at the manifest of the parent that was chosen and at the database at hand.
What only shows when the pages are compared (page size, share of changed pages) is decided by the capture.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  a field
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.backups.choosing import newest_first
from tasks.backups.eta import bytes_text, seconds_text
from tasks.backups.forecast import Workload, predict
from tasks.backups.lineage import BrokenLineageError, Lineage, place_in, place_of
from tasks.backups.points import Kind, PointState, RestorePoint
from tasks.ledger.catching_up import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from datetime import datetime

    from tasks.backups.forecast import Forecast, MeasuredRestore
    from tasks.backups.manifest import Database, Manifest
    from tasks.runtime import BackupOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the next point is."""

    kind: Kind
    parent: RestorePoint | None
    """What its delta is against; None for a full."""
    reason: str
    warning: str = ""
    """What an operator should know although it changes nothing."""

    @property
    def sequence(self) -> int:
        """Its place in the chain."""
        return 0 if self.parent is None else self.parent.sequence + 1

    def chain(self, point_id: str) -> str:
        """Name its chain, given its own id."""
        return point_id if self.parent is None else self.parent.chain

    def promoted(self, because: str) -> Decision:
        """Make it a full after all."""
        return Decision(kind="full", parent=None, reason=because, warning=self.warning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The database at hand, as far as a delta depends on it."""

    engine: str
    server_version: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What must stand the same in `Database.details` of the parent, such as the system identifier of a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision is made of."""

    profile: str
    points: Sequence[RestorePoint]
    """All that are known, in any order, of any profile."""
    stored: Container[str]
    """Ids of the points that the vault has just listed."""
    options: BackupOptions
    now: datetime
    measured: Sequence[MeasuredRestore] = ()
    """Restores, the newest first."""


def decide_kind(asked: Kind, situation: Situation) -> Decision:
    """Decide of what kind the next point is, and against which one its delta is made.

    Points that a clock took in the future are no parents: each further one would be a delta against the same point.
    """
    if asked == "full":
        return _full("asked for")
    known = [point for point in situation.points if point.profile == situation.profile]
    own = newest_first(point for point in known if point.taken_at <= situation.now + CLOCK_TOLERANCE)
    if not own:
        why = "all points of this profile are from the future" if known else "there is no point of this profile yet"
        return _full(why)
    try:
        path = Lineage(situation.points).path_to(own[0].id)
    except BrokenLineageError as error:
        return _full(str(error))
    return _decide_on(path, asked, own, situation)


def confirm(decision: Decision, manifest: Manifest, source: Source | None) -> Decision:
    """Look at the manifest of the parent and at the database at hand; `source` is None in a profile without one."""
    parent = decision.parent
    if parent is None:
        return decision
    if place_in(manifest) != place_of(parent):
        return decision.promoted(f"the manifest of {parent.id} says something else than what is known of it")
    if why := _why_another_database(manifest.database, source):
        return decision.promoted(f"the parent {parent.id} {why}")
    return decision


def _decide_on(
    path: Sequence[RestorePoint], asked: Kind, own: Sequence[RestorePoint], situation: Situation
) -> Decision:
    """Decide with the path to the newest point known; `own` are the points of the profile, the newest first."""
    if why := _why_unsound(path, own, situation.stored):
        return _full(why)
    if asked == "differential":
        path, next_bytes = path[:1], _largest_differential(path[0], own)
        together = next_bytes
    else:
        next_bytes, together = _largest(path[1:]), _staged(path[1:])
    if why := _why_too_large(path, together, situation.options):
        return _full(why)
    work = Workload(size_bytes=own[0].size_bytes, deltas=len(path), delta_bytes=_staged(path[1:]) + next_bytes)
    why, warning = _why_too_slow(work, situation)
    if why:
        return _full(why)
    return Decision(kind=asked, parent=path[-1], reason=f"asked for; against {path[-1].id}", warning=warning)


def _full(reason: str) -> Decision:
    return Decision(kind="full", parent=None, reason=reason)


def _why_unsound(path: Sequence[RestorePoint], own: Sequence[RestorePoint], stored: Container[str]) -> str | None:
    newest = path[-1]
    for link in path:
        what = f"the newest point {link.id}" if link is newest else f"{link.id}, which {newest.id} rests on,"
        if link.id not in stored:
            return f"{what} is not in the vault"
        if link.state is PointState.DAMAGED:
            return f"{what} is damaged: {link.state_reason or 'no reason is known'}"
    if newest.state is PointState.SUSPECT and not _is_confirmed(path[0], own):
        return f"the newest point {newest.id} is suspect: {newest.state_reason or 'no reason is known'}"
    return None


def _is_confirmed(full: RestorePoint, newest_to_oldest: Sequence[RestorePoint]) -> bool:
    """Say whether a suspect full was taken because the point before it was suspect.

    Then two captures, the second of them whole, have found the same. More fulls would find it again, and without
    this each run would take one for as long as nobody looks.
    """
    before = next((point for point in newest_to_oldest if point.taken_at < full.taken_at), None)
    return full.state is PointState.SUSPECT and before is not None and before.state is PointState.SUSPECT


def _why_too_large(path: Sequence[RestorePoint], delta_bytes: int, options: BackupOptions) -> str | None:
    full, deltas = path[0], len(path) - 1
    if deltas >= options.most_links:
        return f"the chain of {full.id} has {deltas} deltas, and may have {options.most_links}"
    if delta_bytes > options.most_chain_share * full.chain_bytes:
        return (
            f"deltas take {bytes_text(delta_bytes)} beside the {bytes_text(full.chain_bytes)} of the full {full.id}, "
            f"and may take {options.most_chain_share:.0%} of it"
        )
    return None


def _why_too_slow(work: Workload, situation: Situation) -> tuple[str | None, str]:
    """Give why a full is needed, and a warning where even that would take too long: one each time would not help."""
    target_s = situation.options.target_rto.total_seconds()
    forecast = predict(work, situation.measured)
    if forecast.seconds <= target_s:
        return None, ""
    alone = predict(Workload(size_bytes=work.size_bytes), situation.measured)
    if alone.seconds <= target_s:
        return f"a restore would take {_too_long(forecast, target_s)}", ""
    return None, f"even a restore of a full would take {_too_long(alone, target_s)}"


def _too_long(forecast: Forecast, target_s: float) -> str:
    return f"{seconds_text(forecast.seconds)}, over the target of {seconds_text(target_s)} ({forecast.basis})"


def _why_another_database(then: Database | None, now: Source | None) -> str | None:
    if then is None:
        return None if now is None else "has no database, and this profile takes one"
    if now is None:
        return "has a database, and this profile takes none"
    return _why_another_cluster(then, now)


def _why_another_cluster(then: Database, now: Source) -> str | None:
    if then.engine != now.engine:
        return f"is of {then.engine}, the database is {now.engine}"
    if then.engine == "postgresql" and _major(then.server_version) != _major(now.server_version):
        return f"is of PostgreSQL {then.server_version}, the server is {now.server_version}"
    for name, value in now.identity.items():
        if then.details.get(name) != value:
            return f"is of another database: its {name} is {then.details.get(name)}, and now it is {value}"
    return None


def _largest_differential(full: RestorePoint, points: Iterable[RestorePoint]) -> int:
    return _largest([point for point in points if point.parent_id == full.id and point.kind == "differential"])


def _staged(points: Sequence[RestorePoint]) -> int:
    return sum(point.chain_bytes for point in points)


def _largest(points: Sequence[RestorePoint]) -> int:
    return max((point.chain_bytes for point in points), default=0)


def _major(version: str) -> str:
    return version.partition(".")[0]
