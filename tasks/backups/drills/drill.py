"""One drill, from the choice of a point to its verdict.

    choose a point · open a sandbox · restore · compare · damage copies and compare again · judge · write it down

Whatever happens, a line is written: of what differs, and of what could not be found out, with the reason. Only what
may go away by itself (`TransientError`), and an end from outside, leave none: the run is tried again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from tasks.backups import restoring
from tasks.backups.choosing import choose_point
from tasks.backups.drills.choosing import Due, choose_due
from tasks.backups.drills.records import Drill, Moment, Timing
from tasks.backups.drills.subjects import Subject
from tasks.backups.drills.verdicts import Check, Judgement, MutantResult, Verdict, judge, kill_rate
from tasks.backups.eta import bytes_text
from tasks.errors import CrewError, PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from tasks.backups.drills.records import Way
    from tasks.backups.drills.subjects import Examiner, Mutant
    from tasks.backups.manifest import Manifest
    from tasks.backups.phases import Phases
    from tasks.backups.points import RestorePoint
    from tasks.backups.staging import Limits, Link, Progress

PHASES: Final = {"choose point": 1.0, **restoring.PHASES, "compare": 40.0, "damage copies": 80.0, "record": 1.0}
"""In their order, each with its guessed part of the whole."""

_log = structlog.get_logger(__name__)


class NotAsStoredError(PermanentError):
    """A restore from the right vault met something that is not what was stored."""


class DrillFailedError(PermanentError):
    """A point is not what was written down of it: it is damaged."""


class DrillInconclusiveError(PermanentError):
    """A drill could not find out how a point is: somebody has to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The private directory of one drill."""

    directory: Path

    @property
    def restored(self) -> Path:
        """Where the point is restored to."""
        return self.directory / "restored"

    @property
    def fetched(self) -> Path:
        """Where the fetched members of the chain stay, for mutants."""
        return self.directory / "fetched"

    @property
    def scratch(self) -> Path:
        """For copies; there and empty from the beginning."""
        return self.directory / "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A point that was restored."""

    manifest: Manifest
    links: Sequence[Link]
    """Its chain as it was fetched."""
    fetch_s: float
    apply_s: float


class Restorer(Protocol):
    """Restores points from their vault."""

    def restore(self, point: RestorePoint, room: Room, phases: Phases) -> Restored:
        """Restore a point into a room.

        Raises:
            NotAsStoredError: something is not what was stored.
            PermanentError: it could not be restored, which says nothing of the point.
            TransientError: the vault was in the way, or the disk is full.
        """

    def is_there(self, point: RestorePoint) -> bool:
        """Say whether the vault still has the point.

        Raises:
            VaultError: it could not be looked at.
        """


class Book(Protocol):
    """The tables, as a drill needs them."""

    def points(self) -> Sequence[RestorePoint]:
        """Give every point of the vault, the newest first."""

    def tried(self) -> Mapping[str, datetime]:
        """Say by point when its last drill ended."""

    def record(self, drill: Drill, point: RestorePoint | None) -> Drill:
        """Write a drill down with all that follows from it, all or nothing; give it with its number.

        A pass proves the point and ends the run. A fail makes the point a damaged one, unless all that differs is what
        the crew's own data must always be: then it is what was captured. A point that has gone away or was found
        damaged since is neither: the drill is inconclusive then.

        Raises:
            LeaseLostError: another worker may hold the run by now; nothing was written.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillOrder:
    """What is to be drilled, and for whom."""

    run_id: str | None = None
    wanted: str | None = None
    """The beginning of an id or a nickname; None: the point whose proof is most due."""
    way: Way = "warm"


@dataclass(slots=True, kw_only=True)
class Course:
    """What is known of a drill while it goes on."""

    order: DrillOrder
    clock: Callable[[], datetime]
    asked_at: datetime
    due: Due | None = None
    size_bytes: int = 0
    timing: Timing | None = None
    rpo_s: float | None = None
    checks: Sequence[Check] = ()
    mutants: Sequence[MutantResult] = ()
    timeline: list[Moment] = field(default_factory=list)

    def note(self, says: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(Moment(at=self.clock(), says=says))

    def ended(self, judgement: Judgement) -> Drill:
        """Give the drill as it is written down."""
        self.note(f"{judgement.verdict.value}: {judgement.reason}")
        point = None if self.due is None else self.due.point
        return Drill(
            run_id=self.order.run_id,
            way=self.order.way,
            point_id=None if point is None else point.id,
            profile="" if point is None else point.profile,
            kind=None if point is None else point.kind,
            sequence=0 if point is None else point.sequence,
            size_bytes=self.size_bytes,
            asked_at=self.asked_at,
            finished_at=self.clock(),
            verdict=judgement.verdict,
            reason=judgement.reason,
            chosen_because="" if self.due is None else self.due.reason,
            timing=self.timing,
            rpo_s=self.rpo_s,
            checks=self.checks,
            mutants=self.mutants,
            timeline=tuple(self.timeline),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRun:
    """Does drills."""

    restorer: Restorer
    examiners: Callable[[Manifest], Sequence[Examiner]]
    rooms: Callable[[], AbstractContextManager[Room]]
    """Opens a room, and removes it at the end of the block, whatever happens there.

    Raises PermanentError where it would be something that lives, TransientError while another drill is at it."""
    book: Book
    limits: Limits
    clock: Callable[[], datetime]
    phases: Phases
    postgresql_tools: Path | None = None
    monotonic: Callable[[], float] = time.monotonic

    def run(self, order: DrillOrder) -> Drill:
        """Do a drill and write it down, whatever comes out.

        Raises:
            TransientError: the vault, the machine or the database was in the way; nothing was written down.
            LeaseLostError: another worker may be at it; nothing was written down.
            CancelledError: somebody called the run off.
        """
        course = Course(order=order, clock=self.clock, asked_at=self.clock())
        drill = course.ended(self._find_out(course))
        with self.phases.phase("record"):
            recorded = self.book.record(drill, None if course.due is None else course.due.point)
        _log.info("backups.drilled", point=recorded.point_id, verdict=recorded.verdict.value, reason=recorded.reason)
        return recorded

    def _find_out(self, course: Course) -> Judgement:
        try:
            with self.phases.phase("choose point"):
                course.due = self._choose(course.order)
            self.phases.about = course.due.point.id
            course.note(f"{course.due.point.id} is drilled: {course.due.reason}")
            return self._drill_in_room(course, course.due.point)
        except PermanentError as error:
            return _inconclusive(str(error))
        except CrewError:
            raise
        except Exception as error:  # noqa: BLE001  it is logged with its traceback, and told
            # A fault of the drill says nothing of the point; unwritten, it would be tried again and again, unseen.
            _log.exception("backups.drill_broke")
            return _inconclusive(f"the drill broke: {type(error).__name__}: {error}")

    def _drill_in_room(self, course: Course, point: RestorePoint) -> Judgement:
        try:
            with self.rooms() as room:
                return self._drill(course, point, room)
        except NotAsStoredError as error:
            return self._refused(course, point, error)

    def _choose(self, order: DrillOrder) -> Due:
        points = self.book.points()
        if order.wanted is None:
            return choose_due(points, now=self.clock(), tried=self.book.tried())
        return Due(point=choose_point(points, order.wanted), reason=f"{order.wanted} was asked for")

    def _drill(self, course: Course, point: RestorePoint, room: Room) -> Judgement:
        restored = self.restorer.restore(point, room, self.phases)
        course.size_bytes = restored.manifest.size_bytes
        course.note(f"restored: {bytes_text(course.size_bytes)}, from {len(restored.links)} points")
        subject = Subject(
            manifest=restored.manifest,
            restored=room.restored,
            scratch=room.scratch,
            links=restored.links,
            limits=self.limits,
            postgresql_tools=self.postgresql_tools,
        )
        examiners = self.examiners(restored.manifest)
        began_s = self.monotonic()
        with self.phases.phase("compare") as progress:
            course.checks = _examine(examiners, subject, progress)
        validate_s = self.monotonic() - began_s
        course.timing = Timing(fetch_s=restored.fetch_s, apply_s=restored.apply_s, validate_s=validate_s)
        course.rpo_s = rpo_s(restored.manifest, course.checks)
        course.note(f"compared: {sum(check.is_equal for check in course.checks)} of {len(course.checks)} checks equal")
        if is_clean(course.checks):
            with self.phases.phase("damage copies") as progress:
                course.mutants = _try_mutants(examiners, subject, progress)
            course.note(f"damaged copies: {kill_rate(course.mutants)} rejected")
        return judge(course.checks, course.mutants)

    def _refused(self, course: Course, point: RestorePoint, error: NotAsStoredError) -> Judgement:
        """Decide what a restore that was refused says: of a point that is gone meanwhile, nothing."""
        try:
            is_there = self.restorer.is_there(point)
        except PermanentError as away:
            return _inconclusive(f"{error}; and the vault cannot be looked at any more: {away}")
        if not is_there:
            return _inconclusive(f"the point went away meanwhile: {error}")
        refusal = Check(name="chain.restore", artefact="chain", examined=1, unit="points", differences=[str(error)])
        course.checks = [*course.checks, refusal]
        return judge(course.checks, ())


def is_clean(checks: Sequence[Check]) -> bool:
    """Say whether it makes sense to damage copies: something was equal, nothing differs, all could be looked at."""
    return any(check.is_equal for check in checks) and not any(check.differences or check.unable for check in checks)


def rpo_s(manifest: Manifest, checks: Sequence[Check]) -> float | None:
    """Say how long before the capture the newest commit was that was found in the restored data.

    The manifest says which one that must be; it counts only where it was found.
    """
    database = manifest.database
    if database is None or database.newest_commit_at is None:
        return None
    found = any(check.name == f"{database.engine}.newest" and check.is_equal for check in checks)
    return (manifest.taken_at - database.newest_commit_at).total_seconds() if found else None


def _examine(examiners: Sequence[Examiner], subject: Subject, progress: Progress) -> list[Check]:
    """Look at everything, also where one of them cannot: a difference elsewhere is to be found all the same."""
    checks: list[Check] = []
    for examiner in examiners:
        try:
            checks += examiner.examine(subject, progress)
        except PermanentError as error:
            name = f"{examiner.artefact}.look"
            checks.append(Check(name=name, artefact=examiner.artefact, examined=0, unable=str(error)))
    return checks


def _try_mutants(examiners: Sequence[Examiner], subject: Subject, progress: Progress) -> list[MutantResult]:
    mutants = [mutant for examiner in examiners for mutant in examiner.mutants(subject, progress)]
    results = []
    for number, mutant in enumerate(mutants, 1):
        progress(f"{number} of {len(mutants)} ({mutant.name})", 0)
        results.append(_try_mutant(mutant))
    return results


def _try_mutant(mutant: Mutant) -> MutantResult:
    if mutant.not_possible:
        return MutantResult(name=mutant.name, artefact=mutant.artefact, not_possible=mutant.not_possible)
    try:
        noticed_by = [check.name for check in mutant.trial() if check.differences]
    except PermanentError:
        _log.exception("backups.mutant_untried", mutant=mutant.name)
        noticed_by = []  # nobody has noticed anything
    if not noticed_by:
        _log.error("backups.mutant_survived", mutant=mutant.name)
    return MutantResult(name=mutant.name, artefact=mutant.artefact, noticed_by=tuple(dict.fromkeys(noticed_by)))


def _inconclusive(reason: str) -> Judgement:
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)
