"""The disaster: two of them in a row, on a small crew under load, and the proof of what came back.

1. Database and files are destroyed, and everything is killed. What the broker kept survives, and with it the usage log
   and the mirror of the jobs: nothing may be lost, not one count.
2. The broker's files are destroyed as well. What was acknowledged after the dump of the restored point is lost then,
   because it was nowhere else: how much that is, is told, and nothing else may be lost, and nothing may be there twice.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from nightcrew import Nightcrew
from nightcrew.errors import NightcrewError
from nightcrew.messages import DrillRestore, ReconcileLedger, RunFullBackup, RunIncrementalBackup
from tasks.backups.choosing import newest_first
from tasks.backups.drills import disaster
from tasks.backups.drills.disaster import Journal, Loss, Window, judge_disaster
from tasks.backups.drills.records import Drill, Moment, Timing
from tasks.backups.drills.verdicts import Check, Judgement, Verdict
from tasks.backups.operations import list_points, make_kit
from tasks.backups.store.drills.book import add_drill
from tasks.errors import CancelledError, CrewError, PermanentError, TransientError
from workers.database import create_engine
from workers.disaster import comeback, sight
from workers.disaster.crew import PATIENCE_S, SmallCrew, wait_for
from workers.disaster.place import scratch_place
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from nightcrew.messages import Message
    from tasks.backups.phases import Teller
    from tasks.backups.points import RestorePoint
    from tasks.runtime import Runtime
    from workers.disaster.place import Place
    from workers.settings import Settings

_SETTLE_S: Final = 60.0
_FILLED: Final = 10_000
"""Counts that are there before: what the apps do meanwhile is then a small part of the database, as anywhere."""
_SMALL_LOAD: Final = 20
"""Rounds of each app that are acknowledged before and between the disasters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The point that everything comes back from."""

    point: RestorePoint
    window: Window
    """From the request to the end of its backup: the dump of the broker is of some moment in it."""


@dataclass(slots=True)
class Simulation:
    """One simulation, from an empty directory to the proof."""

    place: Place
    settings: Settings
    teller: Teller
    crew: SmallCrew = field(init=False)
    timeline: list[Moment] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    timing: Timing | None = None
    point: RestorePoint | None = None
    _share: float = 0.0

    def __post_init__(self) -> None:
        self.crew = SmallCrew(self.place)

    def run(self) -> Judgement:
        """Do all of it; whatever happens, nobody is left."""
        try:
            self.place.furnish(self.settings)
            self.crew.start()
            self.note("a small crew takes work")
            for name in ("one", "two"):
                self.crew.start_app(name)
            proven = self._take_points()
            self.point = proven.point
            self._wait_for_load(2)
            first = self._lose_database(proven)
            self.crew.start_app("three")
            self._wait_for_load(1)
            second = self._lose_everything(proven)
        finally:
            self.crew.stop()
        left = self.crew.left_behind()
        self.checks.append(
            Check(
                name="disaster.processes",
                artefact="invariants",
                examined=len(self.crew.names),
                unit="processes",
                differences=[f"process {pid} is still there" for pid in left],
            )
        )
        says = f"counts lost with the usage log: {first}; without it: {second}, all of them newer than the point"
        return judge_disaster(self.checks, says)

    def note(self, says: str) -> None:
        """Add a line to the timeline, and tell it."""
        self.timeline.append(Moment(at=datetime.now(UTC), says=says))
        self._share = min(self._share + 0.05, 0.99)
        self.teller.report(self._share, says)

    def _take_points(self) -> Proven:
        """Take a full and an incremental point under load, prove the latter, and take one more that nobody proves."""
        with Nightcrew(self.crew.broker_url) as app:
            _done(app, ReconcileLedger())  # from now on the ledger knows every entry of the timetable
            self.crew.fill(app, _FILLED)
            self._wait_for_load(len(self.crew.names))
            full = _done(app, RunFullBackup())
            self.note(f"a full point under load: {full['point']}")
            began_at = datetime.now(UTC)
            proven = _done(app, RunIncrementalBackup())
            window = Window(began_at=began_at, ended_at=datetime.now(UTC))
            self.note(f"an {proven['kind']} point under load: {proven['point']}")
            drill = _done(app, DrillRestore(point=proven["point"]))
            self.note(f"{proven['point']} is proven: {drill['reason']}")
            newer = _done(app, RunIncrementalBackup())
            self.note(f"a newer point, which nobody has proven: {newer['point']}")
        settings = load_settings(self.place.crew, env={})
        runtime = build_runtime(settings, broker_url=self.crew.broker_url, worker_name="disaster")
        try:
            self.place.kit.touch(mode=0o600)
            self.place.kit.write_text(make_kit(runtime).to_json(), encoding="utf-8")
            known = [point for point in newest_first(list_points(runtime)) if point.proven_at is not None]
        finally:
            close_runtime(runtime)
        if not known or known[0].id != proven["point"]:
            msg = f"the newest proven point is {known[0].id if known else 'none'}, and not {proven['point']}"
            raise PermanentError(msg)
        return Proven(point=known[0], window=window)

    def _lose_database(self, proven: Proven) -> Loss:
        """Destroy database and files; the broker's files survive, and nothing may be lost."""
        blow_at, began_s = datetime.now(UTC), time.monotonic()
        self.crew.kill()
        gone = self.place.destroy(with_broker=False)
        self.note(f"disaster 1: everyone is killed, and gone are {', '.join(gone)}; the broker's files survive")
        self._wait_for_slot(proven.point.taken_at)
        asked_s = time.monotonic()
        _, fetch_s = self._restore(proven, "restored-1")
        self._come_back("database-lost", Window(began_at=blow_at, ended_at=blow_at), until_now=True)
        applied_s = time.monotonic()
        self.crew.end_apps()  # what they could not hand over meanwhile, they hand over now
        journals = self.crew.journals()
        loss = self._compare("database-lost", journals, proven, window=None)
        self.timing = Timing(
            fetch_s=fetch_s, apply_s=applied_s - asked_s - fetch_s, validate_s=time.monotonic() - applied_s
        )
        self.note(f"counts lost: {loss}; {time.monotonic() - began_s:.1f} s from the blow to the proof")
        return loss

    def _lose_everything(self, proven: Proven) -> Loss:
        """Destroy the broker's files as well, in the middle of the load."""
        began_s = time.monotonic()
        self.crew.kill()
        self.crew.kill_apps()
        gone = self.place.destroy(with_broker=True)
        self.note(f"disaster 2: everyone is killed, and gone are {', '.join(gone)}")
        restored, _ = self._restore(proven, "restored-2")
        dump = restored / "quarantine" / "broker.rdb"
        entries = comeback.revive_broker(self.place, dump, choice=self.settings.broker.server)
        with self._database() as engine:
            before, logged = sight.counts_in(engine), disaster.rounds_logged(entries)
        self.note("the broker has an append-only file again, made of the dump in quarantine")
        self._come_back("everything-lost", proven.window)
        journals = self.crew.journals()
        with self._database() as engine:
            counts = sight.counts_in(engine)
        self.checks.append(disaster.prove_dump("everything-lost.dump", journals, counts, before=before, logged=logged))
        loss = self._compare("everything-lost", journals, proven, window=proven.window)
        self.note(f"counts lost: {loss}; {time.monotonic() - began_s:.1f} s from the blow to the proof")
        return loss

    def _restore(self, proven: Proven, name: str) -> tuple[Path, float]:
        """Restore the point and put it back; give where it is restored, and how long fetching it took."""
        to = self.place.directory / name
        engine = self.settings.backups.engine
        report = comeback.restore_with_kit(self.place, proven.point.id, to, engine=engine, teller=_Silence())
        put = comeback.put_back(self.place, to)
        seconds = report["seconds"]
        fetch_s = sum(seconds.get(phase, 0.0) for phase in ("find_point", "fetch", "compare_hashes"))
        self.note(f"{proven.point.id} is restored with the recovery kit, put back are {', '.join(put)}")
        return to, fetch_s

    def _come_back(self, name: str, window: Window, *, until_now: bool = False) -> None:
        """Replay the log, compare the counts before anybody else can have done anything, and start the crew again."""
        began_s = time.monotonic()
        told = comeback.replay(self.place)
        if until_now:  # the broker was there, and the apps are
            window = replace(window, ended_at=datetime.now(UTC))
        with self._database() as engine:
            self.checks.append(
                disaster.prove_counts(f"{name}.replay", self.crew.journals(), sight.counts_in(engine), window)
            )
        entries = sum(one["entries"] for one in told["partitions"])
        increments = sum(one["increments"] for one in told["partitions"])
        self.note(f"the log is replayed: {entries} entries, {increments} counts")
        self.crew.start()
        self.note(f"the crew takes work again ({time.monotonic() - began_s:.1f} s)")
        with Nightcrew(self.crew.broker_url) as app:
            _done(app, ReconcileLedger())

    def _compare(self, name: str, journals: list[Journal], proven: Proven, *, window: Window | None) -> Loss:
        """Wait until the crew has settled, and compare it with the journals and the timetable."""
        with self._database() as engine:
            until = datetime.now(UTC)
            settings = load_settings(self.place.crew, env={})
            due = sight.slots_due(settings.timetable(), after=proven.point.taken_at, until=until)

            def checks() -> Iterator[Check]:
                counts = sight.counts_in(engine)
                known = sight.jobs_known(engine, self.crew.broker_url, journals)
                yield disaster.prove_counts(f"{name}.counts", journals, counts, window)
                yield disaster.prove_jobs(f"{name}.jobs", journals, known, window)
                yield disaster.prove_slots(f"{name}.slots", due, sight.slots_in(engine))

            self._settle(lambda: all(check.is_equal for check in checks()))
            self.checks += checks()
            known = sight.jobs_known(engine, self.crew.broker_url, journals)
            lost = disaster.jobs_lost(journals, known)
            self.note(f"{len(due)} slots of the timetable compared; jobs that nothing is known of: {lost}")
            return disaster.counts_lost(journals, sight.counts_in(engine))

    @contextmanager
    def _database(self) -> Iterator[Engine]:
        engine = create_engine(f"sqlite:///{self.place.database}")
        try:
            yield engine
        finally:
            engine.dispose()

    def _wait_for_load(self, apps: int) -> None:
        """Wait until the newest apps have got some more work acknowledged."""
        journals = self.crew.journals()[-apps:]
        before = {journal.app: len(journal.acknowledged) for journal in journals}
        wait_for(
            lambda: all(
                len(journal.acknowledged) >= before[journal.app] + _SMALL_LOAD
                for journal in self.crew.journals()
                if journal.app in before
            ),
            "the load",
        )

    def _wait_for_slot(self, after: datetime) -> None:
        """Stay away until a slot of the timetable was missed: otherwise there would be none to account for."""
        timetable = load_settings(self.place.crew, env={}).timetable()
        wait_for(lambda: bool(sight.slots_due(timetable, after=after, until=datetime.now(UTC))), "a slot")
        self.note("a slot of the timetable has begun meanwhile")

    def _settle(self, is_so: Callable[[], bool]) -> None:
        with suppress(TransientError):  # then the comparison says what is missing
            wait_for(is_so, "the end of what was left to do", patience_s=_SETTLE_S)


def simulate_disaster(settings: Settings, runtime: Runtime, *, teller: Teller, to: Path | None = None) -> Drill:
    """Destroy a small crew under load and bring it back, twice; write down what was found, and give it.

    It happens in a scratch directory, which is removed unless `to` names it. Of the real crew only the engine of the
    vaults and the server of the broker are used; nothing of it is read, and nothing is written but the one line.

    Raises:
        PermanentError: the directory is not empty, or is that of the real crew; nothing was done.
        TransientError: the database of the real crew is away.
    """
    asked_at = datetime.now(UTC)
    with scratch_place(settings, to) as place:
        simulation = Simulation(place, settings, teller)
        try:
            judgement = simulation.run()
        except CancelledError:
            raise
        except (CrewError, NightcrewError) as error:
            judgement = Judgement(verdict=Verdict.INCONCLUSIVE, reason=f"the simulation broke: {error}")
    simulation.note(f"{judgement.verdict.value}: {judgement.reason}")
    point = simulation.point
    drill = Drill(
        run_id=runtime.attempt.run_id,
        way="disaster",
        point_id=None,  # its points are gone with it
        profile="" if point is None else point.profile,
        kind=None if point is None else point.kind,
        sequence=0 if point is None else point.sequence,
        size_bytes=0 if point is None else point.size_bytes,
        asked_at=asked_at,
        finished_at=datetime.now(UTC),
        verdict=judgement.verdict,
        reason=judgement.reason,
        chosen_because="the newest proven point" if point else "",
        timing=simulation.timing,
        checks=tuple(simulation.checks),
        timeline=tuple(simulation.timeline),
    )
    return add_drill(runtime.engine, runtime.attempt, drill)


class _Silence:
    def report(self, share: float, text: str = "") -> None:
        """Tell nobody."""


def _done(app: Nightcrew, message: Message) -> dict[str, Any]:
    """Have the small crew do a job; give its result.

    Raises:
        PermanentError: it failed.
    """
    try:
        result = app.enqueue(message).result(PATIENCE_S)
    except NightcrewError as error:
        msg = f"{message.kind} of the small crew: {error}"
        raise PermanentError(msg) from error
    return result if isinstance(result, dict) else {}
