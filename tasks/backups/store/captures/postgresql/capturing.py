"""Points of a PostgreSQL database: whole ones, and increments where the server lets us take them."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
import structlog

from tasks.backups.postgresql.abilities import judge
from tasks.backups.postgresql.chain import BACKUP_MANIFEST, BASE, DUMP, WAL, Anchor, anchor_of, why_not_on
from tasks.backups.postgresql.positions import parse_position, position_text
from tasks.backups.staging import DatabaseCapture
from tasks.backups.store.captures.postgresql import physical, slots
from tasks.backups.store.captures.postgresql.expectations import Reading
from tasks.backups.store.captures.postgresql.moment import marked_moment, seen_moment
from tasks.backups.store.captures.postgresql.packing import pack_directory, pack_file, unpack_file
from tasks.backups.store.captures.postgresql.probe import probe
from tasks.backups.store.captures.postgresql.running import RefusedError, Toolbox
from tasks.backups.store.captures.postgresql.sessions import libpq_environment, opened_session
from tasks.backups.store.captures.postgresql.tools import find_tools
from tasks.backups.store.stages import check_room
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import URL

    from tasks.backups.manifest import Database, Member
    from tasks.backups.postgresql.abilities import Ability, Server
    from tasks.backups.staging import ParentPoint, Stage
    from tasks.backups.store.captures.postgresql.moment import Mark, Moment
    from tasks.backups.store.captures.postgresql.physical import BaseBackup

_LOCK_TIMEOUT_MS: Final = 60_000
_SCRATCH: Final = "scratch"
_READ_WHOLE_BELOW_BYTES: Final = 256 * 1024 * 1024
_WITH_BASE_SHARE: Final = 1.5
"""Room for a base backup and a dump beside it, which has no indexes, as a share of the database."""

_log = structlog.get_logger(__name__)


class PostgresqlSource:
    """A database that points are taken of."""

    def __init__(
        self,
        url: str | URL,
        *,
        tools: Path | None = None,
        profile: str = "default",
        read_whole_below_bytes: int = _READ_WHOLE_BELOW_BYTES,
        spare_bytes: int = 0,
    ) -> None:
        """Take points of the database at an address (with its password), as one of the profiles.

        `tools` is where `pg_dump` and its like are; None looks where Debian puts them and on the PATH. A larger
        database than `read_whole_below_bytes` is read row by row for whole points only. `spare_bytes` are to be left
        on the disk of the stage.
        """
        self._url = sa.make_url(url)
        self._tools = tools
        self._profile = profile
        self._read_whole_below_bytes = read_whole_below_bytes
        self._spare_bytes = spare_bytes

    def capture(self, stage: Stage, *, parent: ParentPoint | None = None) -> DatabaseCapture:
        """Take an increment on the parent, or a whole point if there is none, or if none may rest on it.

        Raises:
            TransientError: the server has gone, the disk is full, a table was locked for too long.
            PermanentError: a tool is missing or refuses, the role may not read something, there is no table.
        """
        with self._prepared(stage) as work:
            if parent is None:
                return _Whole(work).take()
            reason = why_not_on(parent.manifest.database, work.server, work.ability)
            if not reason:
                try:
                    return _Increment(work, parent).take()
                except RefusedError as error:
                    work.start_over()
                    reason = str(error)
            _log.info("backups.increment_promoted", reason=reason)
            return replace(_Whole(work).take(), promoted_because=reason)

    @contextmanager
    def _prepared(self, stage: Stage) -> Iterator[_Work]:
        with opened_session(self._url) as connection:
            server = probe(connection, self._url)
            size_bytes = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
        tools = find_tools(self._tools, server_major=server.major)
        environment = libpq_environment(self._url)
        toolbox = Toolbox(tools=tools, environment=environment, cwd=stage.directory, limits=stage.limits)
        work = _Work(
            url=self._url,
            stage=stage,
            server=server,
            ability=judge(server, tools.majors),
            toolbox=toolbox,
            slot=slots.slot_name(self._profile, server.database),
            size_bytes=size_bytes,
            is_small=size_bytes <= self._read_whole_below_bytes,
            spare_bytes=self._spare_bytes,
        )
        work.start_over()
        try:
            yield work
        finally:
            shutil.rmtree(work.scratch, ignore_errors=True)


def release_logs(url: str | URL, *, wanted: Collection[str]) -> None:
    """Let the server delete the log that it keeps for increments of this database, but for the profiles `wanted`.

    Raises:
        TransientError: the server has gone.
        PermanentError: the role may not.
    """
    with opened_session(sa.make_url(url)) as connection:
        database = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        kept = {slots.slot_name(profile, database) for profile in wanted}
        for name in sorted(set(slots.lasting_slots(connection, database)) - kept):
            slots.drop_slot(connection, name)
            _log.info("backups.slot_dropped", slot=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One capture: what it is of, and what it is done with."""

    url: URL
    stage: Stage
    server: Server
    ability: Ability
    toolbox: Toolbox
    slot: str
    size_bytes: int
    is_small: bool
    spare_bytes: int

    @property
    def scratch(self) -> Path:
        """For files that the vault does not get."""
        return self.stage.directory / _SCRATCH

    def start_over(self) -> None:
        """Leave nothing of what was begun."""
        for directory in (self.scratch, self.stage.directory / "database"):
            shutil.rmtree(directory, ignore_errors=True)
        self.scratch.mkdir(mode=0o700)

    def tell(self, phase: str) -> Callable[..., None]:
        """Give what the steps of a phase call: with the bytes done, or with nothing to pass a checkpoint."""
        return partial(_tell, self.stage, phase)

    def growth(self, phase: str, path: Path) -> Callable[[], None]:
        """Give what tells how large a file or directory has grown meanwhile."""
        return lambda: self.stage.progress(phase, _size(path), self.size_bytes)

    def take_base_backup(self, since: Path | None) -> BaseBackup:
        directory = self.scratch / "base"
        tick = self.growth("base backup", directory)
        return physical.take_base_backup(self.toolbox, directory, since=since, label="nightcrew", tick=tick)

    def pack_base_backup(self, base: BaseBackup) -> list[Member]:
        tick, stage = self.tell("compressing the base backup"), self.stage.directory
        manifest = pack_file(base.directory / physical.BACKUP_MANIFEST, stage, BACKUP_MANIFEST, tick=tick)
        return [pack_directory(base.directory, stage, BASE, tick=tick), manifest]

    def receive_log(self, since: int, mark: Mark) -> Member:
        directory = self.scratch / "log"
        tick = self.growth("write-ahead log", directory)
        physical.receive_log(self.toolbox, directory, server=self.server, since=since, until=mark.end, tick=tick)
        tick_packing = self.tell("compressing the write-ahead log")
        return pack_directory(directory, self.stage.directory, WAL, tick=tick_packing)

    def marked_moment(self) -> AbstractContextManager[Moment]:
        return marked_moment(self.url, self.stage.directory.name, self.tell("waiting for a moment without writers"))

    def read(self, moment: Moment, *, is_whole: bool) -> Reading:
        reading = Reading(moment.connection, is_whole=is_whole, tick=self.tell("reading the tables"))
        if not reading.relations:
            msg = f"the database {self.server.database} has no tables: there is nothing to back up"
            raise PermanentError(msg)
        return reading

    def anchor(self, mark: Mark) -> Anchor:
        assert self.ability.way is not None  # noqa: S101  there would be no mark
        return Anchor(
            way=self.ability.way,
            system=self.server.system,
            timeline=self.server.timeline,
            segment_bytes=self.server.segment_bytes,
            major=self.server.major,
            database=self.server.database,
            role=self.server.role,
            until=position_text(mark.until),
            marked=position_text(mark.end),
        )

    def versions(self, *names: str) -> dict[str, str]:
        found = self.toolbox.tools.found
        return {name: found[name].version for name in names if name in found}


class _Whole:
    """A point that needs no other one: a dump, and what increments can rest on."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def take(self) -> DatabaseCapture:
        work = self._work
        work.toolbox.tools.path("pg_dump")  # missing, it is missed before anything is begun
        # What is hopeless is told before the server is troubled; what does not fit after all is told by the disk.
        share = 1 if work.ability.way is None else _WITH_BASE_SHARE
        check_room(work.stage.directory, round(work.size_bytes * share) + work.spare_bytes)
        with opened_session(work.url) as connection:
            if work.ability.keeps_slot:
                slots.keep_log(connection, work.slot)
            elif work.server.may_replicate:
                slots.drop_slot(connection, work.slot)
        return self._dump_alone() if work.ability.way is None else self._dump_and_base()

    def _dump_alone(self) -> DatabaseCapture:
        with seen_moment(self._work.url) as moment:
            details = {"increments": self._work.ability.reason}
            return self._captured(moment, [], {"method": "dump", "details": details})

    def _dump_and_base(self) -> DatabaseCapture:
        work = self._work
        with slots.log_kept(work.url) as let_go:
            base = work.take_base_backup(None)
            with work.marked_moment() as moment:
                assert moment.mark is not None  # noqa: S101  it was asked for
                log = work.receive_log(base.end, moment.mark)
                let_go()  # a long dump must not keep the log as well
                details = work.anchor(moment.mark).model_dump()
                members = [*work.pack_base_backup(base), log]
                return self._captured(moment, members, {"method": "base-backup", "details": details})

    def _captured(self, moment: Moment, members: list[Member], how: dict[str, object]) -> DatabaseCapture:
        work = self._work
        reading = work.read(moment, is_whole=True)
        dump = self._dump(moment.snapshot, tables=len(reading.relations))
        return DatabaseCapture(
            members=[dump, *members],
            expected=reading.database().model_copy(update=how),
            taken_at=moment.at,
            is_delta=False,
            log_positions=reading.log_positions(),
            tools=work.versions("pg_dump", *(["pg_basebackup", "pg_receivewal"] if members else [])),
        )

    def _dump(self, snapshot: str, *, tables: int) -> Member:
        work = self._work
        path = work.scratch / "dump.pgc"
        work.toolbox.run(
            "pg_dump",
            *("--format=custom", "--compress=0", "--no-sync", "--no-password"),
            *(f"--lock-wait-timeout={_LOCK_TIMEOUT_MS}", f"--snapshot={snapshot}", "--file", path),
            tick=work.growth("dump", path),
        )
        _check_dump(work, path, tables=tables)
        return pack_file(path, work.stage.directory, DUMP, tick=work.tell("compressing the dump"))


class _Increment:
    """What has changed since the parent."""

    def __init__(self, work: _Work, parent: ParentPoint) -> None:
        expected, anchor = parent.manifest.database, anchor_of(parent.manifest.database)
        assert expected is not None  # noqa: S101  see `why_not_on`
        assert anchor is not None  # noqa: S101
        self._work = work
        self._parent = parent
        self._expected: Database = expected
        self._anchor: Anchor = anchor

    def take(self) -> DatabaseCapture:
        return self._unchanged() or (self._log() if self._anchor.way == "wal" else self._blocks())

    def _unchanged(self) -> DatabaseCapture | None:
        if not self._work.is_small:
            return None
        with seen_moment(self._work.url) as moment:
            reading = self._work.read(moment, is_whole=True)
            if not reading.is_what(self._expected):
                return None
            return DatabaseCapture(
                members=self._handed_on(),
                expected=self._expected.model_copy(update={"method": self._anchor.way}),
                taken_at=moment.at,
                is_delta=True,
                is_unchanged=True,
                log_positions=reading.log_positions(),
            )

    def _handed_on(self) -> list[Member]:
        """Give what the next increment is taken against, which is still the same."""
        if self._anchor.way == "wal":
            return []
        path = self._manifest_of_parent()
        return [pack_file(path, self._work.stage.directory, BACKUP_MANIFEST, tick=self._work.tell("compressing"))]

    def _log(self) -> DatabaseCapture:
        since, work = parse_position(self._anchor.until), self._work
        if work.ability.keeps_slot:
            with opened_session(work.url) as connection:
                slots.let_log_go(connection, work.slot, before=since)
                slots.keep_log(connection, work.slot)
        with work.marked_moment() as moment:
            assert moment.mark is not None  # noqa: S101  it was asked for
            return self._captured(moment, [work.receive_log(since, moment.mark)], moment.mark)

    def _blocks(self) -> DatabaseCapture:
        work, since = self._work, self._manifest_of_parent()
        with slots.log_kept(work.url) as let_go:
            base = work.take_base_backup(since)
            with work.marked_moment() as moment:
                assert moment.mark is not None  # noqa: S101  it was asked for
                log = work.receive_log(base.end, moment.mark)
                let_go()
                return self._captured(moment, [*work.pack_base_backup(base), log], moment.mark)

    def _captured(self, moment: Moment, members: list[Member], mark: Mark) -> DatabaseCapture:
        work, way = self._work, self._anchor.way
        reading = work.read(moment, is_whole=work.is_small)
        how = {"method": way, "details": work.anchor(mark).model_dump()}
        return DatabaseCapture(
            members=members,
            expected=reading.database().model_copy(update=how),
            taken_at=moment.at,
            is_delta=True,
            log_positions=reading.log_positions(),
            tools=work.versions("pg_basebackup", "pg_receivewal"),
        )

    def _manifest_of_parent(self) -> Path:
        path = self._work.scratch / "parent_manifest"
        try:
            unpack_file(self._parent.fetch(BACKUP_MANIFEST), path, tick=self._work.tell("fetching from the parent"))
        except PermanentError as error:
            msg = f"the parent does not have what an increment is taken against: {error}"
            raise RefusedError(msg) from error
        return path


def _check_dump(work: _Work, path: Path, *, tables: int) -> None:
    """See whether the dump can be read, and has the rows of each table that was listed in the same snapshot."""
    dumped = 0

    def count(line: str) -> None:
        nonlocal dumped
        dumped += " TABLE DATA " in line

    work.toolbox.run("pg_restore", "--list", path, tick=work.tell("checking the dump"), on_line=count)
    if dumped < tables:
        msg = f"pg_dump said that all went well, and its dump has {dumped} tables of {tables}"
        raise PermanentError(msg)


def _tell(stage: Stage, phase: str, done: int = 0) -> None:
    stage.progress(phase, done)


def _size(path: Path) -> int:
    paths = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for one in paths:
        try:
            total += one.lstat().st_size
        except FileNotFoundError:  # renamed or removed by the tool meanwhile
            continue
    return total
