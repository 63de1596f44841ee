"""A crew whose backups are struck at, and what must be true of its vaults, its list and its disk afterwards.

Everything is looked at from outside: by the engine as a person runs it, by restores, by what lies on the disk.
"""

from __future__ import annotations

import random
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from nightcrew._uuid7 import uuid7
from tasks.backups.manifest import FILE_NAME, Manifest
from tasks.backups.operations import hold_point, list_vault, vault_of
from tasks.backups.points import PointState
from tasks.backups.retention import decide_retention
from tasks.backups.store import listing
from tasks.backups.store.addresses import address_of
from tasks.backups.vaults import VaultPlace
from tasks.errors import TransientError
from tasks.ledger.tables import JobRun, ResourceLease
from tasks.runtime import NoAttempt
from tasks.transactions import begin_read, begin_write
from tests.chaos.backups_journal import Journal, moment_in
from tests.chaos.backups_worker import RETENTION, Errand, Operation, Place, VaultName
from tests.chaos.backups_workers import Workers, workers_in
from tests.integration.tasks.backups.crew import Crew, runtime_of
from tests.support.restic import bare_restic, locks_of
from workers.database import create_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

    from tasks.backups.points import RestorePoint
    from tasks.runtime import Runtime
    from tests.chaos.backups_workers import Worker

TAKING: Final = frozenset[Operation]({"full", "incremental", "differential"})

_POINT_DIGITS: Final = 12
_MOST_HELD: Final = 2
_ID_LENGTH: Final = 64
_LOCK_PATIENCE_S: Final = 0.5


@dataclass(kw_only=True)
class StruckCrew:
    """A crew with a database that never rests, and workers that may die."""

    crew: Crew
    place: Place
    workers: Workers
    journal: Journal
    chance: random.Random
    begun: dict[str, int] = field(default_factory=dict)
    """By point the last change before the run that takes it began."""
    listed: dict[str, int] = field(default_factory=dict)
    """By point the last change when it was first seen in the list."""
    restores: int = 0
    rivals: list[Worker] = field(default_factory=list)
    """Workers that have taken the run of another one over."""

    @property
    def runtime(self) -> Runtime:
        """What an operator's command works with."""
        return runtime_of(self.crew.engine, self.crew.redis, self.place.options, NoAttempt())

    # What is done.

    def begin(self, operation: Operation) -> Worker:
        """Have a worker begin with a run of its own; what is restored is some point."""
        run_id = str(uuid7())
        if operation == "restore":
            point = self.chance.choice(self.points()).id
            to = self.crew.directory / "restored" / run_id
            return self.workers.begin(Errand(place=self.place, operation=operation, point=point, to=to))
        if operation in TAKING:
            self.begun[run_id.replace("-", "")[-_POINT_DIGITS:]] = self.journal.last
        return self.workers.begin(Errand(place=self.place, operation=operation, run_id=run_id))

    def take_over(self, worker: Worker) -> Worker:
        """Have another worker take the errand of one whose lease is lost with that."""
        self.forfeit()
        self.rivals.append(self.workers.begin(worker.errand))
        return self.rivals[-1]

    def see_success(self, worker: Worker) -> float:
        """Wait until a worker has succeeded, look at what it was to do, and say how long it worked."""
        told = worker.wait()
        assert told is not None, worker.describe()
        assert told.verdict == "succeeded", worker.describe()
        if worker.errand.operation == "restore":
            self.see_restored(worker.errand.to, worker.errand.point)
        self.note_listed()
        return told.seconds

    def forfeit(self, engine: Engine | None = None) -> None:
        """Let all leases run out: those of the dead do, and nobody wants to wait for it here."""
        past = datetime.now(UTC) - timedelta(hours=1)
        running = sa.update(JobRun).where(JobRun.state == "running").values(lease_until=past, heartbeat_at=past)
        taken = sa.update(ResourceLease).where(ResourceLease.run_id.is_not(None)).values(lease_until=past)
        with begin_write(engine or self.crew.engine) as connection:
            connection.execute(running)
            connection.execute(taken)

    def can_forfeit(self) -> bool:
        """Let all leases run out, unless somebody who has stopped holds a lock of the database."""
        engine = create_engine(self.place.database_url, busy_timeout_s=_LOCK_PATIENCE_S)
        try:
            self.forfeit(engine)
        except TransientError:
            return False
        finally:
            engine.dispose()
        return True

    def fence_of(self, run_id: str) -> int:
        """Say how often a run was claimed."""
        with begin_read(self.crew.engine) as connection:
            return connection.scalar(sa.select(JobRun.fence).where(JobRun.id == run_id)) or 0

    def has_ended(self, run_id: str) -> bool:
        """Say whether a run has its outcome."""
        with begin_read(self.crew.engine) as connection:
            state = connection.scalar(sa.select(JobRun.state).where(JobRun.id == run_id))
        return state not in {None, "queued", "running"}

    def hold_some(self) -> None:
        """Hold other points than before, so that a pruning finds something to do and something to leave."""
        points = self.points()
        for point in points:
            if point.is_held:
                hold_point(self.runtime, point.id, is_held=False)
        for point in self.chance.sample(points, self.chance.randrange(min(_MOST_HELD, len(points)) + 1)):
            hold_point(self.runtime, point.id, is_held=True)

    # What is there.

    def points(self, vault: VaultName = "primary") -> list[RestorePoint]:
        """Give what is written down of a vault."""
        return list(listing.every(self.crew.engine, vault=vault))

    def points_in_vault(self) -> list[RestorePoint]:
        """Give what the first vault says of itself, where everything in it can be read."""
        contents = list_vault(vault_of(self.place.options))
        assert contents.unreadable == {}, contents
        return list(contents.points)

    def kept(self) -> set[str]:
        """Say which points a pruning has to leave, those included that are in the vault alone."""
        written = {point.id: point for point in self.points()}
        known = {**{point.id: point for point in self.points_in_vault()}, **written}
        rules = {"default": RETENTION.retention}
        verdicts = decide_retention(list(known.values()), rules, now=datetime.now(UTC), stored=known)
        return {verdict.point.id for verdict in verdicts if verdict.keep}

    def note_listed(self) -> None:
        """Remember by when each point was taken."""
        for point in self.points():
            self.listed.setdefault(point.id, self.journal.last)

    # What must be true.

    def see_kept(self, wanted: set[str]) -> None:
        """See that none of these points is lost, in the list or in the vault."""
        for there in (self.points(), self.points_in_vault()):
            assert not (lost := wanted - {point.id for point in there}), f"lost: {sorted(lost)}"

    def see_tidy(self) -> None:
        """See that nothing lies around of what died."""
        backups, restored = self.place.options.directory, self.crew.directory / "restored"
        assert _names(backups / "staging") == [], "stages are left"
        assert _names(self.place.temporary) == [], "temporary files are left"
        assert [name for name in _names(restored) if ".partial-" in name] == [], "halves of restores are left"
        known = {"CACHEDIR.TAG", "vault"}
        for cache in (backups / "cache").iterdir():
            odd = [path.name for path in cache.iterdir() if path.name not in known and not _is_vault_id(path.name)]
            assert odd == [], f"{odd} are left in {cache}"

    def see_sound(self, *, is_thorough: bool = False) -> None:
        """Have a person check the vaults, and compare their lists with ours; for the time after a run that writes."""
        for name in self._vaults():
            place = self._place_of(name)
            assert locks_of(place) == [], "locks are left"
            arguments = ["check", *(["--read-data"] if is_thorough else [])]
            checked = bare_restic(place, *arguments)
            assert checked.returncode == 0, f"{name}: {checked.stdout}{checked.stderr}"
        written, stored = self.points(), self.points_in_vault()
        assert {one.id for one in written} == {one.id for one in stored}
        damaged = [one for one in self.points() if one.state is PointState.DAMAGED]
        assert damaged == [], "called damaged by mistake"

    def restore(self, point: RestorePoint, *, from_vault: bool, vault: VaultName = "primary") -> None:
        """Restore a point, by the list or by the vault alone, and see that it is what it was."""
        to = self.crew.directory / "restored" / f"look-{self.restores}"
        errand = Errand(
            place=self.place, operation="restore", point=point.id, to=to, from_vault=from_vault, vault=vault
        )
        self.see_success(self.workers.begin(errand))

    def restore_all(self) -> None:
        """Restore whatever is listed, by the list and by each vault alone."""
        for vault in self._vaults():
            for point in self.points(vault):
                for from_vault in (False, True):
                    self.restore(point, from_vault=from_vault, vault=vault)

    def see_restored(self, to: Path, point: str) -> None:
        """See that a directory is a point, whole and as the database was in its time; it is not needed any more."""
        manifest = Manifest.from_json((to / FILE_NAME).read_bytes())
        assert manifest.point == point
        assert (to / "quarantine" / "broker.rdb").is_file()
        assert (to / "config" / "crew.toml").read_text() == self.crew.config.read_text()
        moment = moment_in(to, manifest, tools=self.place.postgresql_tools)
        self.journal.assert_was(moment, earliest=self.begun[point], latest=self.listed.get(point, self.journal.last))
        shutil.rmtree(to)
        self.restores += 1

    def _vaults(self) -> list[VaultName]:
        return ["primary", "second"] if self.points("second") else ["primary"]

    def _place_of(self, name: VaultName) -> VaultPlace:
        options = self.place.options
        vault = options.vault if name == "primary" else options.second_vault
        assert vault is not None
        return VaultPlace(name=name, location=vault.location, password_file=vault.password_file)


@contextmanager
def struck_crew(
    engine: Engine, redis: Redis, directory: Path, outside: Path, seed: int, *, tools: Path | None = None
) -> Iterator[StruckCrew]:
    """Give a crew with a point of each kind, a second vault, and a database that changes during the block.

    Its vaults, stages and restores lie in `directory`; `outside` has what may grow when that is full.
    """
    temporary, files = outside / "temporary", outside / "workers"
    for made in (temporary, files, directory / "restored"):
        made.mkdir()
        made.chmod(0o755)
    crew = Crew(engine, redis, directory, seed, postgresql_tools=tools, profiles={"default": RETENTION})
    place = Place(
        database_url=engine.url.render_as_string(hide_password=False),
        redis_url=address_of(redis),
        directory=directory,
        temporary=temporary,
        postgresql_tools=tools,
    )
    journal = Journal(engine, seed)
    with workers_in(files) as workers, journal.going_on():
        yield StruckCrew(crew=crew, place=place, workers=workers, journal=journal, chance=random.Random(seed))


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def _is_vault_id(name: str) -> bool:
    return len(name) == _ID_LENGTH and not set(name) - set("0123456789abcdef")
