"""What is captured, and how it comes back: each engine in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from tasks.backups.postgresql.chain import BACKUP_MANIFEST, DUMP
from tasks.backups.promotion import Source
from tasks.backups.staging import Stage
from tasks.backups.store.addresses import address_of
from tasks.backups.store.captures.files import capture_files
from tasks.backups.store.captures.postgresql import PostgresqlSource, release_logs, restore_database
from tasks.backups.store.captures.redis import capture_redis, run_of
from tasks.backups.store.captures.redis_restoring import restore_dumps
from tasks.backups.store.captures.sqlite import PAGES, capture_sqlite
from tasks.backups.store.captures.sqlite_restoring import restore_sqlite
from tasks.backups.store.targets import enterable
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tasks.backups.manifest import Manifest, Part
    from tasks.backups.staging import (
        DatabaseCapture,
        FilesCapture,
        Limits,
        Link,
        ParentPoint,
        Progress,
        RedisCapture,
    )
    from tasks.runtime import BackupOptions, Runtime

RESTORED_FILE: Final = "nightcrew.db"
"""Name of a restored SQLite database."""

_log = structlog.get_logger(__name__)
_NEEDED_BY_CHILDREN: Final = frozenset({PAGES, BACKUP_MANIFEST})
_NEEDED_BY_NO_RESTORE: Final = frozenset({PAGES})


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSources:
    """The database, the Redis servers and the files of a crew."""

    runtime: Runtime
    options: BackupOptions
    profile: str

    def describe(self) -> Source:
        """Say which engine it is; what else a delta depends on is seen by the capture."""
        dialect = self.runtime.engine.dialect
        version = getattr(dialect, "server_version_info", None) or ()  # known since the first connection
        return Source(engine=dialect.name, server_version=".".join(map(str, version)))

    def database(self, stage: Stage, parent: ParentPoint | None) -> DatabaseCapture:
        """Capture the database of the crew."""
        engine = self.runtime.engine
        if engine.dialect.name == "sqlite":
            return capture_sqlite(
                self._file(),
                stage,
                parent=parent,
                most_changed_share=self.options.most_changed_share,
                read_whole_below_bytes=self.options.read_whole_below_bytes,
            )
        source = PostgresqlSource(
            engine.url,
            tools=self.options.postgresql_tools,
            profile=self.profile,
            read_whole_below_bytes=self.options.read_whole_below_bytes,
        )
        return source.capture(stage, parent=parent)

    def redis(self, stage: Stage) -> Sequence[RedisCapture]:
        """Capture the broker, and the cache if it is another server: a dump holds all databases of one."""
        address, cache_url = address_of(self.runtime.redis), self.options.cache_url
        broker = capture_redis(address, name="broker", stage=stage)
        if cache_url is None:
            return [broker]
        if run_of(cache_url, name="cache") == run_of(address, name="broker"):
            _log.info("backups.cache_included", reason="it is the server of the broker")
            return [broker]
        return [broker, capture_redis(cache_url, name="cache", stage=stage)]

    def files(self, stage: Stage, parts: Collection[Part]) -> FilesCapture:
        """Capture the configuration and the model, never the password of a vault."""
        second = self.options.second_vault
        places = [self.options.vault, *([second] if second is not None else [])]
        return capture_files(
            config_files=self.options.config_files if "config" in parts else (),
            model_file=self.options.model_file if "model" in parts else None,
            password_files=[place.password_file for place in places],
            stage=stage,
        )

    def _file(self) -> Path:
        name = self.runtime.engine.url.database
        if not name or name == ":memory:":
            msg = "a database in memory cannot be backed up: give database.url a file"
            raise PermanentError(msg)
        return Path(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewAssembler:
    """Puts databases and dumps of Redis servers together again."""

    postgresql_tools: Path | None
    limits: Limits

    def needs(self, path: Sequence[Manifest]) -> Mapping[str, Collection[str]]:
        """Name by point the members that a restore of the last point of a path needs."""
        last = path[-1]
        if any(member.name == DUMP for member in last.members):
            return {last.point: {DUMP}}
        return {
            manifest.point: {
                member.name
                for member in manifest.members
                if member.part == "database" and member.name not in _NEEDED_BY_NO_RESTORE | {DUMP}
            }
            for manifest in path
        }

    def assemble(self, links: Sequence[Link], to: Path, progress: Progress) -> Sequence[Path]:
        """Put the database of the last link together in a new directory, checked against its manifest; name it."""
        to.mkdir(mode=0o700)
        database = links[-1].manifest.database
        if database is not None and database.engine == "sqlite":
            restore_sqlite(links, to / RESTORED_FILE, progress=progress)
            return [to / RESTORED_FILE]
        stage = Stage(directory=to, progress=progress, limits=self.limits)
        with enterable(to.parent, to):
            restored = restore_database(links, stage, tools=self.postgresql_tools)
        return [path for path in (restored.dump, restored.cluster) if path is not None]

    def quarantine(self, link: Link, to: Path, progress: Progress) -> Sequence[Path]:
        """Put the dumps of Redis servers where no server finds them by chance, each proven equal."""
        return restore_dumps(link, to, limits=self.limits, progress=progress)


def release_sources(runtime: Runtime, options: BackupOptions) -> None:
    """Have the database keep nothing for profiles that take it no more: they may be gone from the settings.

    Raises:
        TransientError: the database is away.
        PermanentError: it refuses that.
    """
    if runtime.engine.dialect.name == "postgresql":
        wanted = {name for name, profile in options.profiles.items() if "database" in profile.parts}
        release_logs(runtime.engine.url, wanted=wanted)


def kept_members(manifest: Manifest) -> Collection[str]:
    """Name the members of a point that the next delta is made against."""
    return [member.name for member in manifest.members if member.name in _NEEDED_BY_CHILDREN]
