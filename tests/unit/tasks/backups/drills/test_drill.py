"""One drill from choice to verdict, with a vault, examiners and tables that do as they are told."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tasks.backups.drills.drill import PHASES, DrillOrder, DrillRun, NotAsStoredError, Restored, Room
from tasks.backups.drills.subjects import Mutant
from tasks.backups.drills.verdicts import Check, Verdict, kill_rate
from tasks.backups.manifest import Manifest
from tasks.backups.phases import Phases
from tasks.backups.staging import Limits
from tasks.backups.vaults import VaultMissingError, VaultUnreachableError
from tasks.errors import CancelledError, LeaseLostError, PermanentError, TransientError
from tests.fakes.backups import Clock, FakeAttempt, expected_database
from tests.fakes.shelf import START, Journal
from tests.unit.tasks.backups.histories import full

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tasks.backups.drills.records import Drill
    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.points import RestorePoint
    from tasks.backups.staging import Progress

POINT = "aaaaaaaaaaaa"
AGO = timedelta(minutes=5)


def equal(name: str = "sqlite.content", artefact: Artefact = "sqlite") -> Check:
    return Check(name=name, artefact=artefact, examined=3)


def differing(name: str = "sqlite.content", artefact: Artefact = "sqlite") -> Check:
    return replace(equal(name, artefact), differences=["2 rows instead of 3"])


@dataclass
class FakeExaminer:
    """Looks at nothing, and says what it was told."""

    journal: Journal
    artefact: Artefact = "sqlite"
    checks: Sequence[Check] = (equal(), equal("sqlite.newest"))
    noticed: Sequence[Check] = (differing(),)
    not_possible: str = ""

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        self.journal.note(f"examine {self.artefact}")
        assert subject.scratch.is_dir()
        progress("look", 1, 2)
        return self.checks

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        del subject, progress

        def trial() -> Sequence[Check]:
            self.journal.note(f"try {self.artefact}")
            return self.noticed

        return [
            Mutant(name=f"{self.artefact}.break", artefact=self.artefact, trial=trial, not_possible=self.not_possible)
        ]


@dataclass
class FakeRestorer:
    """Restores one file."""

    journal: Journal
    has_point: bool = True

    def restore(self, point: RestorePoint, room: Room, phases: Phases) -> Restored:
        with phases.phase("fetch"):
            self.journal.note(f"restore {point.id}")
        room.restored.mkdir()
        return Restored(manifest=manifest(), links=(), fetch_s=2.0, apply_s=3.0)

    def is_there(self, point: RestorePoint) -> bool:
        self.journal.note(f"look for {point.id}")
        return self.has_point


@dataclass
class FakeDrillBook:
    """The tables of the drills."""

    journal: Journal
    rows: list[RestorePoint] = field(default_factory=lambda: [full(POINT, taken_at=START)])
    drills: list[Drill] = field(default_factory=list)

    def points(self) -> Sequence[RestorePoint]:
        self.journal.note("read points")
        return self.rows

    def tried(self) -> Mapping[str, datetime]:
        return {}

    def record(self, drill: Drill, point: RestorePoint | None) -> Drill:
        assert (None if point is None else point.id) == drill.point_id
        self.journal.note(f"record {drill.verdict.value}")
        self.drills.append(drill)
        return replace(drill, id=len(self.drills))


def manifest() -> Manifest:
    database = expected_database(b"one\n").model_copy(update={"newest_commit_at": START - AGO})
    return Manifest(
        point=POINT,
        run="run",
        profile="default",
        kind="full",
        chain=POINT,
        sequence=0,
        parent=None,
        reason="asked for",
        taken_at=START,
        began_at=START,
        tools={},
        members=(),
        database=database,
        size_bytes=4_000,
    )


@dataclass
class Scene:
    """Everything that a drill meets."""

    directory: Path
    journal: Journal = field(default_factory=Journal)
    attempt: FakeAttempt = field(default_factory=FakeAttempt)

    def __post_init__(self) -> None:
        self.restorer = FakeRestorer(self.journal)
        self.book = FakeDrillBook(self.journal)
        self.examiners = [FakeExaminer(self.journal)]
        ticks = count()
        self.seconds = lambda: float(next(ticks))

    @contextmanager
    def room(self) -> Iterator[Room]:
        self.journal.note("open room")
        room = Room(directory=self.directory / f"drill-{len(self.journal.entries)}")
        shutil.rmtree(room.directory, ignore_errors=True)
        room.scratch.mkdir(parents=True)
        try:
            yield room
        finally:
            self.journal.note("remove room")

    def drill(self, **order: Any) -> Drill:
        run = DrillRun(
            restorer=self.restorer,
            examiners=lambda _: self.examiners,
            rooms=self.room,
            book=self.book,
            limits=Limits(),
            clock=Clock(),
            phases=Phases(self.attempt, PHASES),
            monotonic=self.seconds,
        )
        return run.run(DrillOrder(run_id="run-1", **order))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_drill_goes_from_choice_to_record(scene: Scene) -> None:
    """Each step once and in its order; the room is gone before anything is written down."""
    drill = scene.drill()
    assert scene.journal.entries == [
        "read points",
        "open room",
        f"restore {POINT}",
        "examine sqlite",
        "try sqlite",
        "remove room",
        "record pass",
    ]
    assert (drill.id, drill.verdict, drill.point_id, drill.kind) == (1, Verdict.PASS, POINT, "full")
    assert drill.reason == "2 checks equal, 1/1 mutants rejected"
    assert drill.chosen_because.startswith("never proven")
    assert [moment.says.partition(":")[0] for moment in drill.timeline] == [
        f"{POINT} is drilled",
        "restored",
        "compared",
        "damaged copies",
        "pass",
    ]
    assert drill.asked_at < drill.timeline[0].at < drill.finished_at


def test_time_and_loss_are_measured(scene: Scene) -> None:
    """Fetch and apply are the restore's, validate is the comparison alone; the loss reaches to the newest commit."""
    drill = scene.drill()
    assert drill.timing is not None
    assert (drill.timing.fetch_s, drill.timing.apply_s, drill.timing.validate_s) == (2.0, 3.0, 1.0)
    assert drill.rpo_s == AGO.total_seconds()
    assert drill.size_bytes == 4_000
    scene.examiners[0].checks = [equal()]
    assert scene.drill().rpo_s is None  # nobody has found the newest commit


def test_a_difference_fails_and_no_copy_is_damaged(scene: Scene) -> None:
    """What differs is told; a drill that would damage copies of it would prove nothing more."""
    scene.examiners[0].checks = [equal(), differing("sqlite.newest")]
    drill = scene.drill()
    assert (drill.verdict, drill.reason) == (Verdict.FAIL, "sqlite.newest: 2 rows instead of 3")
    assert drill.mutants == ()
    assert "try sqlite" not in scene.journal.entries


def test_a_mutant_that_nobody_notices_makes_it_inconclusive(scene: Scene) -> None:
    """The point may be good; what says so cannot be trusted. `unable` is not noticing, nor is a broken trial."""
    for noticed in ([], [equal()], [Check(name="sqlite.content", artefact="sqlite", examined=0, unable="locked")]):
        scene.examiners[0].noticed = noticed
        drill = scene.drill()
        assert (drill.verdict, str(kill_rate(drill.mutants))) == (Verdict.INCONCLUSIVE, "0/1")
        assert drill.reason == "1 of 1 mutants went unnoticed, the first is sqlite.break"
    scene.journal.failures["try sqlite"] = PermanentError("no tool")
    assert scene.drill().verdict is Verdict.INCONCLUSIVE


def test_no_mutant_at_all_is_no_pass(scene: Scene) -> None:
    """Nothing says then that the drill sees; and what cannot be made is told with its reason."""
    scene.examiners[0].not_possible = "all tables are empty"
    drill = scene.drill()
    assert drill.verdict is Verdict.INCONCLUSIVE
    assert [mutant.not_possible for mutant in drill.mutants] == ["all tables are empty"]
    assert "try sqlite" not in scene.journal.entries


def test_who_cannot_look_keeps_nobody_else_from_looking(scene: Scene) -> None:
    """A missing tool makes the drill inconclusive; a difference that another one sees still fails it."""
    scene.journal.failures["examine redis"] = PermanentError("redis-server is not installed")
    scene.examiners = [FakeExaminer(scene.journal, "redis"), FakeExaminer(scene.journal)]
    drill = scene.drill()
    assert drill.verdict is Verdict.INCONCLUSIVE
    assert drill.reason == "redis.look could not look: redis-server is not installed"
    assert "try sqlite" not in scene.journal.entries
    scene.examiners[1].checks = [differing()]
    assert scene.drill().verdict is Verdict.FAIL


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_a_restore_that_meets_other_content_fails_the_point(scene: Scene, verdict: Verdict) -> None:
    """Unless the point is gone meanwhile: then what was met says nothing of it."""
    scene.journal.failures[f"restore {POINT}"] = NotAsStoredError("db.full has not the content that was stored")
    scene.restorer.has_point = verdict is Verdict.FAIL
    drill = scene.drill()
    assert drill.verdict is verdict
    assert "db.full has not the content that was stored" in drill.reason
    assert drill.timing is None
    assert scene.journal.entries[-3:] == ["remove room", f"look for {POINT}", f"record {verdict.value}"]


def test_a_vault_that_is_gone_after_a_refusal_says_nothing_of_the_point(scene: Scene) -> None:
    """Its files going away one by one look like damage."""
    scene.journal.failures[f"restore {POINT}"] = NotAsStoredError("pack 1f is missing")
    scene.journal.failures[f"look for {POINT}"] = VaultMissingError("there is no vault")
    drill = scene.drill()
    assert drill.verdict is Verdict.INCONCLUSIVE
    assert drill.reason == "pack 1f is missing; and the vault cannot be looked at any more: there is no vault"


@pytest.mark.parametrize("step", ["open room", f"restore {POINT}"])
@pytest.mark.parametrize("error", [PermanentError("restic is not installed"), ValueError("a fault of ours")])
def test_what_keeps_it_from_looking_is_written_down(scene: Scene, step: str, error: Exception) -> None:
    """No sandbox, no vault, no tool, a fault of the drill itself: inconclusive, with the reason."""
    scene.journal.failures[step] = error
    drill = scene.drill()
    assert (drill.verdict, drill.point_id) == (Verdict.INCONCLUSIVE, POINT)
    assert str(error) in drill.reason
    assert scene.book.drills == [replace(drill, id=None)]


def test_no_point_is_a_drill_too(scene: Scene) -> None:
    """Nothing to drill, or nothing of that name: a line without a point, which somebody hears of."""
    scene.book.rows = []
    drill = scene.drill()
    assert (drill.verdict, drill.point_id, drill.kind) == (Verdict.INCONCLUSIVE, None, None)
    assert drill.reason.startswith("there is no restore point to drill yet")
    scene.book.rows = [full(POINT)]
    assert "no restore point begins with ff" in scene.drill(wanted="ff").reason
    assert scene.drill(wanted="aaaa").chosen_because == "aaaa was asked for"


@pytest.mark.parametrize("step", ["read points", "open room", f"restore {POINT}", "examine sqlite", "try sqlite"])
@pytest.mark.parametrize(
    "error",
    [
        TransientError("full"),
        VaultUnreachableError("away"),
        CancelledError("called off"),
        LeaseLostError("another has it"),
        KeyboardInterrupt(),
    ],
)
def test_what_may_go_away_is_tried_again(scene: Scene, step: str, error: BaseException) -> None:
    """No verdict is written down then, whenever it comes."""
    scene.journal.failures[step] = error
    with pytest.raises(type(error)):
        scene.drill()
    assert scene.book.drills == []


def test_it_can_be_called_off_at_any_report(scene: Scene) -> None:
    """Each report is a checkpoint; the room goes, and no verdict is written down."""
    scene.drill()
    for reports in range(len(scene.attempt.reports) - 1):
        scene.journal.entries.clear()
        scene.attempt = FakeAttempt(cancels_after=reports)
        with pytest.raises(CancelledError):
            scene.drill()
        assert scene.journal.entries.count("open room") == scene.journal.entries.count("remove room")
        assert not any(entry.startswith("record") for entry in scene.journal.entries)


def test_progress_never_goes_backwards(scene: Scene) -> None:
    """All phases are planned."""
    scene.drill()
    shares = [share for share, _ in scene.attempt.reports]
    assert shares == sorted(shares)
    assert [text for _, text in scene.attempt.reports if "1 of 1" in text] == [
        f"{POINT}: damage copies: 1 of 1 (sqlite.break)"
    ]
