"""The way back: a dump that is loaded where it is wanted, or a data directory exactly as it was at the moment."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from tasks.backups.postgresql.chain import BACKUP_MANIFEST, BASE, DUMP, WAL, anchor_of
from tasks.backups.postgresql.comparing import differences
from tasks.backups.store.captures.postgresql import physical
from tasks.backups.store.captures.postgresql.expectations import read_expectations
from tasks.backups.store.captures.postgresql.packing import unpack_directory, unpack_file
from tasks.backups.store.captures.postgresql.private_server import private_server
from tasks.backups.store.captures.postgresql.running import Toolbox
from tasks.backups.store.captures.postgresql.sessions import libpq_environment, opened_session
from tasks.backups.store.captures.postgresql.tools import find_tools
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import URL

    from tasks.backups.manifest import Database
    from tasks.backups.postgresql.chain import Anchor
    from tasks.backups.staging import Link, Stage

_NOTE: Final = "README.txt"
DUMP_FILE: Final = "dump.pgc"
"""A dump, as it is restored."""
CLUSTER: Final = "cluster"
"""A data directory, as it is restored."""
_SETTINGS_OF_SOURCE: Final = "postgresql.auto.conf"
_FOREIGN_FILES: Final = ("standby.signal", "recovery.signal", "postmaster.pid", "postmaster.opts")

_DUMP_NOTE: Final = """\
dump.pgc is a dump of the database {database} (PostgreSQL {version}), in the custom format of pg_dump.
Load it into an empty database, with pg_restore of version {major} or newer:

    createdb {database}
    pg_restore --exit-on-error --no-owner --dbname={database} dump.pgc
"""
_CLUSTER_NOTE: Final = """\
cluster is a data directory of PostgreSQL {major}, as it was at the moment of the restore point, and stopped in order.
It needs the same major version, and belongs to the account that the server will run as:

    chown -R postgres: cluster && chmod 700 cluster
    postgres -D cluster

It takes up no replication and no archiving of the server that it was taken from: see cluster/{settings}.source for what
was set there with ALTER SYSTEM, and cluster/pg_hba.conf and cluster/postgresql.conf, if the server kept them there.
"""


class NotEqualError(PermanentError):
    """What was restored is not what was captured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredDatabase:
    """What a restore has written."""

    dump: Path | None
    """A dump, for a point that has one and of which no data directory was asked for."""
    cluster: Path | None
    """A data directory, found equal to the manifest, its server stopped."""


def restore_database(
    links: Sequence[Link], stage: Stage, *, tools: Path | None = None, as_cluster: bool | None = None
) -> RestoredDatabase:
    """Put the database of the last of the links together, in the directory of the stage.

    `as_cluster` asks for a data directory, or for a dump; None is a dump where the point has one, which any newer
    version can load. The hashes of the members are taken to be checked. A data directory is compared with the manifest
    before this returns.

    Raises:
        NotEqualError: the restored tables are not what they were.
        PermanentError: the point has no dump, or no data directory; a member is damaged; a tool is missing or refuses.
        TransientError: the disk is full.
    """
    expected = links[-1].manifest.database
    if expected is None or expected.engine != "postgresql":
        msg = "the restore point has no database of PostgreSQL"
        raise PermanentError(msg)
    if as_cluster is None:
        as_cluster = not _member(links[-1], DUMP).exists()
    restored = _restore_cluster(links, expected, stage, tools) if as_cluster else _restore_dump(links[-1], stage)
    _write_note(stage.directory, expected, restored)
    return restored


def load_dump(dump: Path, url: str | URL, stage: Stage, *, tools: Path | None = None) -> None:
    """Load a dump into an empty database; owners and grants of the source are left out.

    Raises:
        PermanentError: there are tables already; the dump is damaged, or of a newer version than the server.
        TransientError: the server cannot be reached, or the disk is full.
    """
    target = sa.make_url(url)
    with opened_session(target) as connection:
        version = connection.exec_driver_sql("SELECT current_setting('server_version_num')::int").scalar_one()
        if connection.exec_driver_sql("SELECT count(*) FROM pg_stat_user_tables").scalar_one():
            msg = f"the database {target.database} has tables already: a dump is loaded into an empty one"
            raise PermanentError(msg)
    found = find_tools(tools, server_major=version // 10_000)
    toolbox = Toolbox(tools=found, environment=libpq_environment(target), cwd=stage.directory, limits=stage.limits)
    toolbox.run(
        "pg_restore",
        *("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--no-password"),
        *("--dbname", target.database or "", dump),
        tick=lambda: stage.progress("loading the dump", 0),
    )


def _restore_dump(link: Link, stage: Stage) -> RestoredDatabase:
    source, dump = _member(link, DUMP), stage.directory / DUMP_FILE
    if not source.exists():
        msg = "the restore point is an increment: it has no dump, only a data directory can be restored"
        raise PermanentError(msg)
    unpack_file(source, dump, tick=_tell(stage, "unpacking the dump"))
    return RestoredDatabase(dump=dump, cluster=None)


def _restore_cluster(links: Sequence[Link], expected: Database, stage: Stage, tools: Path | None) -> RestoredDatabase:
    anchor = anchor_of(expected)
    if anchor is None:
        msg = f"the restore point is a dump alone: {expected.details.get('increments', 'it has no base backup')}"
        raise PermanentError(msg)
    cluster = stage.directory / CLUSTER
    found = find_tools(tools, server_major=anchor.major)
    toolbox = Toolbox(tools=found, environment={"LC_ALL": "C"}, cwd=stage.directory, limits=stage.limits)
    bases = [place for place, link in enumerate(links) if _member(link, BASE).exists()]
    _combine([links[place] for place in bases], cluster, toolbox, stage)
    for link in links[bases[-1] :]:
        if _member(link, WAL).exists():
            unpack_directory(_member(link, WAL), cluster / "pg_wal", tick=_tell(stage, "unpacking the write-ahead log"))
    _make_ours(cluster)
    _replay(cluster, anchor, expected, stage, tools)
    return RestoredDatabase(dump=None, cluster=cluster)


def _combine(links: Sequence[Link], cluster: Path, toolbox: Toolbox, stage: Stage) -> None:
    """Put a base backup and those of what has changed since together, each of them checked."""
    parts = stage.directory / "parts"
    directories = [parts / f"{place:03}" for place in range(len(links))]
    for link, directory in zip(links, directories, strict=True):
        unpack_directory(_member(link, BASE), directory, tick=_tell(stage, "unpacking a base backup"))
        listed = directory / physical.BACKUP_MANIFEST
        unpack_file(_member(link, BACKUP_MANIFEST), listed, tick=_tell(stage, "unpacking"))
        physical.verify_base_backup(toolbox, directory, tick=_tell(stage, "verifying a base backup"))
    if len(directories) == 1:
        directories[0].rename(cluster)
    else:
        # It refuses what is not a chain; that the blocks are right is seen by the check after it.
        tick = _tell(stage, "putting increments together")
        toolbox.run("pg_combinebackup", "--no-sync", "--output", cluster, *directories, tick=tick)
        physical.verify_base_backup(toolbox, cluster, tick=tick)
    shutil.rmtree(parts, ignore_errors=True)


def _make_ours(cluster: Path) -> None:
    """Take away what would make it follow, archive to, or be configured like the server that it was taken from."""
    for name in _FOREIGN_FILES:
        (cluster / name).unlink(missing_ok=True)
    settings = cluster / _SETTINGS_OF_SOURCE
    if settings.exists():
        settings.rename(cluster / f"{_SETTINGS_OF_SOURCE}.source")
    settings.touch(mode=0o600)
    (cluster / "recovery.signal").touch(mode=0o600)
    cluster.chmod(0o700)


def _replay(cluster: Path, anchor: Anchor, expected: Database, stage: Stage, tools: Path | None) -> None:
    """Replay the log up to the moment of the point, and compare what is there then."""
    settings: Mapping[str, str] = {
        "restore_command": "false",  # all of the log lies in the directory
        "recovery_target_lsn": anchor.until,
        "recovery_target_inclusive": "off",
        "recovery_target_timeline": "current",
        "recovery_target_action": "promote",
    }
    server = private_server(
        cluster,
        role=anchor.role,
        database=anchor.database,
        tools=tools,
        limits=stage.limits,
        tick=_tell(stage, "replaying the write-ahead log"),
        settings=settings,
    )
    with server as url, opened_session(url) as connection:
        found = read_expectations(connection, tick=_tell(stage, "comparing the tables"))
    if differs := differences(expected, found):
        msg = f"what was restored is not what was captured: {'; '.join(differs)}"
        raise NotEqualError(msg)


def _write_note(directory: Path, expected: Database, restored: RestoredDatabase) -> None:
    major = expected.server_version.partition(".")[0]
    database = expected.details.get("database", "nightcrew")
    note = _DUMP_NOTE if restored.dump else _CLUSTER_NOTE
    text = note.format(database=database, version=expected.server_version, major=major, settings=_SETTINGS_OF_SOURCE)
    (directory / _NOTE).write_text(text)


def _member(link: Link, name: str) -> Path:
    return link.directory / name


def _tell(stage: Stage, phase: str) -> Callable[..., None]:
    def tell(done: int = 0) -> None:
        stage.progress(phase, done)

    return tell
