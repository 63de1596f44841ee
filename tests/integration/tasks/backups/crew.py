"""A crew with a real vault, a real SQLite file and a real Redis, whose jobs run as messages do."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nightcrew import wire
from nightcrew._uuid7 import uuid7
from nightcrew.messages import RunFullBackup, RunIncrementalBackup
from tasks.backups import jobs
from tasks.backups.operations import list_points, restore_point
from tasks.backups.restoring import PARTS
from tasks.backups.store.keys import write_password
from tasks.job import Delivery, definition_of, run_job
from tasks.ledger.store import queries
from tasks.runtime import BackupOptions, NoAttempt, ProfileOptions, RetentionOptions, Runtime, VaultOptions
from tasks.transactions import begin_write
from tests.support.cheap_vaults import make_cheap_vault
from tests.support.restic import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis
    from sqlalchemy import Engine

    from nightcrew.messages import Message
    from tasks.backups.manifest import Part
    from tasks.backups.points import RestorePoint
    from tasks.job import Definition, Outcome
    from tasks.runtime import Attempt, Posting

assert jobs.__doc__  # imported so that the jobs are registered

ROWS = 3_000
_ROW_BYTES = 400
NOTES = "SELECT id, text FROM notes ORDER BY id"
_INSERT = sa.text("INSERT INTO notes VALUES (:id, :text)")
_UPDATE = sa.text("UPDATE notes SET text = :text WHERE id = :id")
_ONE = RetentionOptions(daily=1, weekly=0, monthly=0)


class SilentPublisher:
    """Takes messages, and delivers none."""

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None: ...

    def publish_many(self, postings: Sequence[Posting]) -> None: ...


class FixedAttempt(NoAttempt):
    """For a second attempt of a run, without a ledger that would have to wait for its lease."""

    def __init__(self, run_id: str, fence: int = 1) -> None:
        self.run_id = run_id
        self.fence = fence


def options_in(directory: Path) -> BackupOptions:
    """Give the settings of a crew in a directory."""
    return BackupOptions(
        directory=directory / "backups",
        vault=VaultOptions(location=str(directory / "vault"), password_file=directory / "keys" / "vault"),
        second_vault=VaultOptions(location=str(directory / "second"), password_file=directory / "keys" / "second"),
        config_files=(directory / "crew.toml",),
    )


def runtime_of(engine: Engine, redis: Redis, options: BackupOptions, attempt: Attempt) -> Runtime:
    """Give what jobs are handed."""
    return Runtime(
        engine=engine,
        redis=redis,
        publisher=SilentPublisher(),
        timetable={},
        worker_name="backups@test",
        backups=options,
        attempt=attempt,
    )


@dataclass
class Crew:
    """A crew, and what its database holds."""

    engine: Engine
    redis: Redis
    directory: Path
    seed: int
    postgresql_tools: Path | None = None
    profiles: dict[str, ProfileOptions] = field(default_factory=lambda: {"default": ProfileOptions(retention=_ONE)})

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.config = self.directory / "crew.toml"
        self.config.write_text("[broker]\n")
        with begin_write(self.engine) as connection:
            connection.execute(sa.text("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"))
            connection.execute(_INSERT, [{"id": n, "text": self._text()} for n in range(ROWS)])
        self.redis.set("greeting", "hello")
        for vault in (self.options.vault, self.options.second_vault):
            assert vault is not None
            vault.password_file.parent.mkdir(mode=0o700, exist_ok=True)
            write_password(vault.password_file, PASSWORD)
            make_cheap_vault(Path(vault.location), PASSWORD)

    @property
    def options(self) -> BackupOptions:
        chosen = options_in(self.directory)
        return replace(chosen, profiles=self.profiles, postgresql_tools=self.postgresql_tools)

    @property
    def runtime(self) -> Runtime:
        return runtime_of(self.engine, self.redis, self.options, NoAttempt())

    def run(self, message: Message) -> Any:
        """Deliver a message, and give the result of its run, or its error."""
        job_id = str(uuid7())
        self.deliver(message, job_id, definition_of(message.kind))
        run = queries.by_id(self.engine, job_id)
        assert run is not None
        assert (run.state, run.error) == ("succeeded", None)
        return run.result

    def deliver(self, message: Message, job_id: str, definition: Definition) -> Outcome:
        """Have a worker get a message."""
        headers = {wire.HEADER_SCHEMA: 1, wire.HEADER_ENQUEUED_AT: datetime.now(UTC).timestamp()}
        delivery = Delivery(id=job_id, payload=message.to_payload(), headers=headers)
        return run_job(definition, delivery, self.runtime)

    def full(self, profile: str = "default") -> dict[str, Any]:
        result: dict[str, Any] = self.run(RunFullBackup(profile=profile))
        return result

    def incremental(self, profile: str = "default") -> dict[str, Any]:
        result: dict[str, Any] = self.run(RunIncrementalBackup(profile=profile))
        return result

    def second_try(self, run_id: str, fence: int = 1) -> Runtime:
        """Give the runtime of an attempt of a run."""
        return replace(self.runtime, attempt=FixedAttempt(run_id, fence))

    def change_some(self) -> None:
        """Update one row in a hundred, and append as many."""
        with begin_write(self.engine) as connection:
            last = connection.scalar(sa.text("SELECT max(id) FROM notes"))
            for n in range(ROWS // 100):
                hot = last - self.random.randrange(ROWS // 20)
                connection.execute(_UPDATE, {"id": hot, "text": self._text()})
                connection.execute(_INSERT, {"id": last + 1 + n, "text": self._text()})
        self.redis.set("greeting", self._text())

    def notes(self) -> list[tuple[int, str]]:
        with self.engine.connect() as connection:
            return [(row.id, row.text) for row in connection.execute(sa.text(NOTES))]

    def points(self) -> list[RestorePoint]:
        return list_points(self.runtime)

    def restore(self, point: str, *, only: frozenset[Part] = PARTS) -> tuple[dict[str, Any], Path]:
        """Restore a point into a directory of its own."""
        to = self.directory / "restored" / f"{point}-{self.random.getrandbits(32)}"
        return restore_point(self.runtime, point, to=to, only=only), to

    def lose_cache(self) -> None:
        """Lose all that is not in a vault and not in the database."""
        shutil.rmtree(self.options.directory)

    def _text(self) -> str:
        return self.random.randbytes(_ROW_BYTES // 2).hex()


def notes_in(restored: Path) -> list[tuple[int, str]]:
    """Read the notes of a restored database, after SQLite found it in order."""
    [path] = (restored / "database").iterdir()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute(NOTES).fetchall()
