"""The invariants on real data: none is violated by what the crew does, and each damage is noticed."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test
from sqlalchemy import text

from nightcrew.messages import RunCanary
from tasks.backups.drills.records import Drill
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.storage import Check, Measure
from tasks.backups.store import points, watching
from tasks.backups.store.drills.book import add_drill
from tasks.backups.store.drills.invariants import Asking, InvariantExaminer, find_violations
from tasks.backups.store.points import FoundPoint
from tasks.ledger import pauses
from tasks.ledger.dead_letters import DeadLetter
from tasks.ledger.invariants import INVARIANTS as OF_LEDGER
from tasks.ledger.store import cancelling, letters, pings, runs
from tasks.runtime import NoAttempt
from tasks.transactions import begin_read, begin_write
from tasks.ttl.accesses import Counted, Tally
from tasks.ttl.collecting import AccessIncident, AccessPosition
from tasks.ttl.store.access import SqlAccessCounters
from tasks.usage.operations import note_proven
from tasks.usage.position import Incident
from tasks.usage.store import SqlUsageCounts
from tasks.values.changes import Change
from tasks.values.store import SqlValueWriter
from tests.integration.tasks.backups.drills.captured import FILE, Chain
from tests.integration.tasks.ledger.conftest import MinuteEntry, make_bench
from tests.integration.tasks.ledger.test_state_machine import Ledger
from tests.integration.tasks.usage.conftest import Crew
from tests.unit.tasks.backups.histories import chain
from workers.lifecycle import INVARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from tasks.backups.drills.subjects import Subject
    from tests.integration.tasks.ledger.conftest import Bench
    from tests.support.redis import RedisServer

NOW = datetime.now(UTC)
LEASE = timedelta(seconds=30)


def silent(phase: str, done: int, total: int | None = None) -> None:
    """Hear nothing."""


@contextmanager
def asked(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that is taken back."""
    with engine.connect() as connection, connection.begin() as everything:
        yield connection
        everything.rollback()


def violated(connection: Connection, taken_at: datetime) -> dict[str, list[str]]:
    checks = [find_violations(connection, one, taken_at) for one in INVARIANTS]
    assert not [check for check in checks if check.unable]
    return {check.name: list(check.differences) for check in checks if check.differences}


def live(engine: Engine, redis_server: RedisServer) -> None:
    """Do some of everything that a crew does."""
    _count(Crew(redis_server.client(), engine))
    _cache(engine)
    _keep_values(engine)
    bench = make_bench(engine, redis_server)
    bench.clock.now = NOW - timedelta(hours=1)
    _work(bench)
    _back_up(engine)


def _count(crew: Crew) -> None:
    for number in range(3):
        crew.log_add({"a": 5, "b": number + 1}, outcome="anr"[number])
    crew.log_reset("a")
    crew.log_add({"a": 1}, outcome="a")
    crew.drain()
    position = SqlUsageCounts(crew.engine).position(0)
    assert position is not None
    with begin_write(crew.engine) as connection:
        note_proven(connection, {0: (position.epoch, position.last_id)})
    SqlUsageCounts(crew.engine).report(0, Incident(kind="log_over_cap", detail="x"), NOW)


def _cache(engine: Engine) -> None:
    counters = SqlAccessCounters(engine)
    tally = Tally(requests=4, hits=3, misses=1, sets=1, bytes_read=12, dropped=2)
    place = (int(NOW.timestamp()) // 3600 - 2, "defaults")
    counted = Counted(last_id=f"{int(NOW.timestamp()) * 1000}-0", hours={place: tally}, sequences={"p": 1})
    position = AccessPosition(epoch="e", last_id=counted.last_id, settled={"defaults": 7})
    incidents = [AccessIncident(kind="counters_dropped", detail="2 of defaults")]
    written_at = NOW - timedelta(hours=2)
    assert counters.apply(counted, expected=None, position=position, now=written_at, incidents=incidents) == "applied"


def _keep_values(engine: Engine) -> None:
    writer = SqlValueWriter(engine, lambda: NOW - timedelta(hours=2))
    made = [Change(action="create", key=key, value=1, tags=("t",)) for key in ("kept", "deleted", "purged")]
    writer.apply([*made, Change(action="update", key="kept", value=2)], actor="ann")
    writer.apply([Change(action="delete", key="purged")], actor="ann")
    assert writer.purge(before=NOW, limit=9, actor="ann") == [("purged", "")]
    writer.apply([Change(action="delete", key="deleted")], actor="ann")


def _work(bench: Bench) -> None:
    engine, now = bench.runtime.engine, bench.clock
    names = ("done", "failed", "again", "waits", "called", "asked", "late", "holds", "restarted")
    ids = {name: f"01931f2e-5f6a-7abc-8def-{number:012x}" for number, name in enumerate(names)}
    for number, run_id in enumerate(ids.values()):
        slot: dict[str, Any] = {"entry": "nightly", "slot_at": now() + timedelta(hours=number - 24), "watched": True}
        start_before = now() - LEASE if run_id == ids["late"] else None
        wanted = replace(bench.wanted(run_id), start_before=start_before, **(slot if number % 2 == 0 else {}))
        runs.insert(engine, [wanted], now=now(), republish_after=LEASE)

    def begin(name: str, *resources: str) -> Any:
        wanted = bench.wanted(ids[name])
        claim = runs.claim(engine, wanted, now=now(), worker="w", lease=LEASE, max_attempts=2, exclusive=resources)
        assert claim.taken
        return claim.run

    def fail(name: str, *, permanent: bool) -> Any:
        failure = runs.Failure(reason="disk is full", permanent=permanent)
        return runs.fail(engine, begin(name), failure, now=now(), published_at=None, republish_at=now())

    assert runs.succeed(engine, begin("done", "tape"), result=None, now=now())
    fail("failed", permanent=True)
    fail("again", permanent=False)
    runs.miss_unstarted(engine, now=now())
    cancelling.cancel(engine, ids["called"], reason="not wanted", by="me", now=now())
    begin("asked")
    cancelling.cancel(engine, ids["asked"], reason="not wanted", by="me", now=now())
    runs.note_progress(engine, begin("holds", "vault"), share=0.5, text="half")
    assert runs.restart(engine, fail("restarted", permanent=True), now=now())
    entry = MinuteEntry(name="nightly", message=RunCanary())
    pauses.pause(entry, bench.runtime, until=now() + LEASE, reason="holiday", by="me")
    ping = pings.claim_due(engine, now=now(), lease=LEASE)
    assert ping is not None
    pings.note_sent(engine, ping, now=now())
    letter = DeadLetter(source="queue", kind=None, job_id=None, reason="x", body="{}", received_at=now())
    letters.keep(engine, [("queue/1", letter)])
    letters.note_retried(engine, 1, now=now())


def _back_up(engine: Engine) -> None:
    history = chain(3)
    with begin_write(engine) as connection:
        points.adopt(connection, [FoundPoint(point=one, stored_at=one.finished_at) for one in history], vault="primary")
        points.note_verified(connection, ["a1"], vault="primary", at=NOW)
        points.mark_proven(connection, "a1", at=NOW)
        watching.record_check(connection, Check(checked_at=NOW, slice=1, slices=30, is_sound=True), vault="primary")
        measure = Measure(measured_at=NOW, points=4, stored_bytes=1, staged_bytes=1, size_bytes=1, free_bytes=None)
        watching.record_measure(connection, measure, vault="primary")
    drill = Drill(
        run_id=None, way="warm", point_id="a1", asked_at=NOW, finished_at=NOW, verdict=Verdict.PASS, reason="equal"
    )
    add_drill(engine, NoAttempt(), drill)


def test_what_a_crew_does_violates_nothing_and_each_damage_is_noticed(
    engine: Engine, redis_server: RedisServer
) -> None:
    """On both databases: every invariant looks at something, and no way to break it goes unnoticed."""
    live(engine, redis_server)
    with asked(engine) as connection:
        assert violated(connection, NOW) == {}
        looked_at = {one.name: find_violations(connection, one, NOW).examined for one in INVARIANTS}
        assert [name for name, rows in looked_at.items() if not rows] == []
        asking = Asking(connection, NOW, silent)
        mutants = [asking.mutant(one, damage) for one in INVARIANTS for damage in one.damages]
        assert [(one.name, one.not_possible) for one in mutants if one.not_possible] == []
        assert [one.name for one in mutants if not any(check.differences for check in one.trial())] == []
        assert violated(connection, NOW) == {}, "damage was left behind"


def test_a_clock_of_the_crew_may_be_a_little_ahead(engine: Engine, redis_server: RedisServer) -> None:
    """A machine that keeps local time condemns no backup; one of another year does."""
    live(engine, redis_server)
    with asked(engine) as connection:
        assert violated(connection, NOW - timedelta(hours=20)) == {}
        late = {f"{part}.nothing-later-than-capture" for part in ("ttl", "usage", "ledger", "backups")}
        assert late <= violated(connection, NOW - timedelta(days=30)).keys()


def test_nothing_that_happens_to_runs_violates_anything(sqlite_engine: Engine, redis_server: RedisServer) -> None:
    """After every step of random lives: a drill that cried wolf would condemn good backups."""
    bench = make_bench(sqlite_engine, redis_server)
    with begin_write(sqlite_engine) as connection:
        connection.execute(text("CREATE TABLE effects (run_id TEXT, fence INTEGER)"))

    class Watched(Ledger):
        @invariant()
        def nothing_is_violated(self) -> None:
            with begin_read(self.engine) as connection:
                checks = [find_violations(connection, one, self.clock()) for one in OF_LEDGER]
            assert [check for check in checks if check.differences or check.unable] == []

    run_state_machine_as_test(
        cast("type[Ledger]", lambda: Watched(bench)),
        settings=settings(max_examples=4, stateful_step_count=20, derandomize=True),
    )


@pytest.fixture
def subject(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path) -> Subject:
    """Give the database of a crew that has lived, captured and restored."""
    live(sqlite_engine, redis_server)
    chain_of_points = Chain(tmp_path / "points")
    chain_of_points.directory.mkdir()
    with closing(sqlite3.connect(str(sqlite_engine.url.database))) as live_one:
        live_one.execute("VACUUM INTO ?", (str(chain_of_points.source),))
    chain_of_points.take()
    found = chain_of_points.subject()
    return replace(found, manifest=found.manifest.model_copy(update={"taken_at": NOW}))


def test_a_restored_database_is_asked_and_left_as_it_is(subject: Subject) -> None:
    """All is asked, all damage is noticed on a copy, and neither restored set nor scratch keeps a trace."""
    file = subject.restored / FILE
    before = file.read_bytes()
    examiner = InvariantExaminer(invariants=INVARIANTS)
    checks = examiner.examine(subject, silent)
    assert [check.name for check in checks] == [one.name for one in INVARIANTS]
    assert all(check.is_equal for check in checks)
    mutants = examiner.mutants(subject, silent)
    assert len(mutants) == sum(len(one.damages) for one in INVARIANTS)
    assert "usage.hours-sum-to-counts.count-off-by-one" in [one.name for one in mutants]
    for one in mutants:
        assert [check.outcome for check in one.trial()] == ["differs"], one.name
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
    assert list(subject.scratch.iterdir()) == []


def test_a_violation_is_found_and_told(subject: Subject) -> None:
    """The one that is violated says where; no other cries along."""
    harm(subject, "UPDATE usage_counts SET total = total + 1 WHERE key = 'b'")
    differing = [one for one in InvariantExaminer(invariants=INVARIANTS).examine(subject, silent) if one.differences]
    assert [one.name for one in differing] == ["usage.hours-sum-to-counts"]
    assert "key b" in differing[0].differences[0]


def test_many_violations_are_told_in_a_few_words(subject: Subject) -> None:
    """A report is for people."""
    harm(subject, "DELETE FROM usage_counts")
    harm(
        subject,
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000) "
        "INSERT INTO usage_counts (key, context, total, accepted, rejected) SELECT x, '', 1, 0, 0 FROM n",
    )
    [found] = [one for one in InvariantExaminer(invariants=INVARIANTS).examine(subject, silent) if one.differences]
    assert len(found.differences) == 11
    assert found.differences[-1] == "and more"


def test_an_older_release_is_not_looked_at(subject: Subject) -> None:
    """It lacks tables and columns: nothing was looked at there, which is no pass and no failure."""
    harm(subject, "DROP TABLE drills", "ALTER TABLE job_runs DROP COLUMN first_started_at")
    examiner = InvariantExaminer(invariants=INVARIANTS)
    checks = {check.name: check for check in examiner.examine(subject, silent)}
    for name in ("backups.drills-add-up", "ledger.outcomes-say-why"):
        assert checks[name].outcome == "nothing to compare"
        assert "the release that wrote them" in checks[name].unit
    assert checks["ledger.attempts-within-limits"].is_equal
    left_out = [one.name for one in examiner.mutants(subject, silent) if one.not_possible]
    assert "backups.drills-add-up.more-rejected-than-made" in left_out


def test_a_database_of_somebody_else_is_not_asked(tmp_path: Path) -> None:
    """What is not a crew's has other promises."""
    points_of_another = Chain(tmp_path)
    points_of_another.do("CREATE TABLE customers (id INTEGER PRIMARY KEY)")
    points_of_another.take()
    subject = points_of_another.subject()
    examiner = InvariantExaminer(invariants=INVARIANTS)
    assert examiner.examine(subject, silent) == ()
    assert examiner.mutants(subject, silent) == ()


def test_a_checkpoint_stops_the_questions(subject: Subject) -> None:
    """A drill that was called off asks nothing more, and leaves no copy behind."""

    def stop(*_: object, **__: object) -> None:
        raise InterruptedError

    examiner = InvariantExaminer(invariants=INVARIANTS)
    for ask in (examiner.examine, examiner.mutants):
        with pytest.raises(InterruptedError):
            ask(subject, stop)
    assert list(subject.scratch.iterdir()) == []


def harm(subject: Subject, *statements: str) -> None:
    with closing(sqlite3.connect(subject.restored / FILE, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
