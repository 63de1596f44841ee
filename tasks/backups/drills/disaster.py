"""What a disaster must have left behind, to the last count: pure, and zero tolerance.

An app works in rounds. A round counts one key of its own and one that all rounds of the app share, in one step, and is
written into a journal before it begins and again when the crew has acknowledged it. So the counts tell which rounds
are there, and how often:

    the usage log survived     every round that was acknowledged is there once, and no other
    it was lost as well        the rounds up to some round are there once: all that the restored database and the log in
                               the dump have. Those behind it are lost, all of them were acknowledged after the point
                               was asked for, and their number is told
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.verdicts import Check, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

PREFIX: Final = "disaster-"
"""With which the names of scratch directories begin that lie in a data directory."""
AMOUNT: Final = 3
"""How often a round counts its own key."""
_MOST_TOLD: Final = 5
_ROUND: Final = re.compile(rb"([a-z]+)\.round\.(\d{6})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What an app knows of its own work."""

    app: str
    begun: Sequence[datetime] = ()
    """When each round began, from the first."""
    acknowledged: Sequence[datetime] = ()
    """When the crew had taken it: as many, or one less where the app was killed within a round."""
    jobs: Mapping[str, datetime] = field(default_factory=dict)
    """By id of a job: when the crew had accepted it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time, such as that in which a dump of the broker was taken: what was under way meanwhile is in it or not."""

    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How much was lost of what was acknowledged."""

    lost: int
    of: int

    def __str__(self) -> str:
        return f"{self.lost:,} of {self.of:,}"


def hot_key(app: str) -> str:
    """Name the key that every round of an app counts once."""
    return f"{app}.hot"


def round_key(app: str, number: int) -> str:
    """Name the key of a round, from 1."""
    return f"{app}.round.{number:06d}"


def counts_of(app: str, rounds: int) -> dict[str, int]:
    """Give the counts of an app after so many rounds."""
    own = {round_key(app, number): AMOUNT for number in range(1, rounds + 1)}
    return own | ({hot_key(app): rounds} if rounds else {})


def prove_counts(name: str, journals: Sequence[Journal], counts: Mapping[str, int], window: Window | None) -> Check:
    """Compare all counts with the journals; with a `window` the counts are those of some moment in it."""
    expected: dict[str, int] = {}
    differences: list[str] = []
    for journal in journals:
        rounds = _rounds_there(journal, counts)
        if problem := _problem(journal, rounds, window):
            differences.append(problem)
        # What must be there does not follow from what is there: only how far it reaches does, after a loss.
        expected |= counts_of(journal.app, len(journal.acknowledged) if window is None else rounds)
    wrong = sorted(key for key in expected.keys() | counts.keys() if expected.get(key, 0) != counts.get(key, 0))
    differences += [f"{key} is {counts.get(key, 0)} instead of {expected.get(key, 0)}" for key in wrong[:_MOST_TOLD]]
    if len(wrong) > _MOST_TOLD:
        differences.append(f"{len(wrong) - _MOST_TOLD} more counts differ")
    return Check(name=name, artefact="invariants", examined=len(expected), unit="counts", differences=differences)


def counts_lost(journals: Sequence[Journal], counts: Mapping[str, int]) -> Loss:
    """Say how many acknowledged counts are not there."""
    each = AMOUNT + 1
    acknowledged = sum(len(journal.acknowledged) for journal in journals)
    there = sum(min(_rounds_there(journal, counts), len(journal.acknowledged)) for journal in journals)
    return Loss(lost=each * (acknowledged - there), of=each * acknowledged)


def rounds_logged(entries: Iterable[bytes]) -> dict[str, int]:
    """Say by app up to which round entries of the usage log reach, as they were written: by no code of the drain."""
    reach: dict[str, int] = {}
    for app, number in (found for entry in entries for found in _ROUND.findall(entry)):
        name = app.decode()
        reach[name] = max(reach.get(name, 0), int(number))
    return reach


def prove_dump(
    name: str,
    journals: Sequence[Journal],
    counts: Mapping[str, int],
    *,
    before: Mapping[str, int],
    logged: Mapping[str, int],
) -> Check:
    """See that the counts reach exactly as far as the restored database and the log of the dump do together.

    `before` are the counts of the database, `logged` says by app up to which round the log of the dump reaches.
    """
    differences = []
    for journal in journals:
        found = _rounds_there(journal, counts)
        due = max(_rounds_there(journal, before), logged.get(journal.app, 0))
        if found != due:
            differences.append(f"{journal.app} is counted up to round {found}, and the dump reaches up to {due}")
    return Check(name=name, artefact="invariants", examined=len(journals), unit="apps", differences=differences)


def prove_jobs(name: str, journals: Sequence[Journal], known: Collection[str], window: Window | None) -> Check:
    """See that every accepted job is accounted for; after the loss of the broker, every one from before its dump."""
    jobs = {job: at for journal in journals for job, at in journal.jobs.items()}
    due = {job for job, at in jobs.items() if window is None or at < window.began_at}
    lost = sorted(due - set(known))
    differences = [f"nothing is known of job {job}, accepted at {jobs[job]:%H:%M:%S}" for job in lost[:_MOST_TOLD]]
    if len(lost) > _MOST_TOLD:
        differences.append(f"nothing is known of {len(lost) - _MOST_TOLD} more jobs")
    return Check(name=name, artefact="invariants", examined=len(due), unit="jobs", differences=differences)


def jobs_lost(journals: Sequence[Journal], known: Collection[str]) -> Loss:
    """Say how many accepted jobs nothing is known of."""
    jobs = {job for journal in journals for job in journal.jobs}
    return Loss(lost=len(jobs - set(known)), of=len(jobs))


def prove_slots(name: str, due: Collection[tuple[str, datetime]], rows: Sequence[tuple[str, datetime]]) -> Check:
    """See that every slot of the timetable has a line in the ledger, and one only."""
    differences = []
    for entry, slot in sorted(due):
        if (found := rows.count((entry, slot))) != 1:
            differences.append(f"{entry} of {slot:%H:%M} has {found} lines")
    return Check(name=name, artefact="invariants", examined=len(due), unit="slots", differences=differences)


def judge_disaster(checks: Sequence[Check], says: str) -> Judgement:
    """Decide; `says` is what to tell of a pass. What compared nothing has proven nothing."""
    if differing := [check for check in checks if check.differences]:
        return Judgement(verdict=Verdict.FAIL, reason=f"{differing[0].name}: {differing[0].differences[0]}")
    if not checks or not all(check.is_equal for check in checks):
        empty = next((check.name for check in checks if not check.is_equal), "everything")
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=f"{empty} had nothing to compare")
    return Judgement(verdict=Verdict.PASS, reason=says)


def _rounds_there(journal: Journal, counts: Mapping[str, int]) -> int:
    """Say up to which round an app is counted."""
    begun = len(journal.begun)
    return next((number for number in range(begun, 0, -1) if counts.get(round_key(journal.app, number))), 0)


def _problem(journal: Journal, rounds: int, window: Window | None) -> str:
    """Say what is wrong about the round up to which an app is counted."""
    if window is None:
        return ""
    least = sum(at < window.began_at for at in journal.acknowledged)
    most = sum(at <= window.ended_at for at in journal.begun)
    if rounds < least:
        since = f"{window.began_at:%H:%M:%S}"
        return f"{journal.app} is counted up to round {rounds}, but {least} were acknowledged before {since}"
    if rounds > most:
        until = f"{window.ended_at:%H:%M:%S}"
        return f"{journal.app} is counted up to round {rounds}, but only {most} had begun until {until}"
    return ""
