"""A server of our own on a restored set: reached through a unix socket in a private directory, by nobody else.

A data directory is served as it is. A dump is loaded into a server that is made for it beside the restored set, once
a drill; its database has a name that no other server has.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.backups.staging import Stage
from tasks.backups.store.captures.postgresql.private_server import as_server_account, private_server
from tasks.backups.store.captures.postgresql.restoring import CLUSTER, DUMP_FILE, load_dump
from tasks.backups.store.captures.postgresql.sessions import opened_session
from tasks.backups.store.captures.postgresql.tools import find_tools
from tasks.backups.store.targets import enterable
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.staging import Progress

_MADE: Final = "postgresql"
"""Below the scratch: the server that a dump is loaded into."""
_NAME_OF_DATABASE: Final = "name-of-the-database"
_ROLE: Final = "drill"
_INITDB_S: Final = 120.0


class NothingToServeError(PermanentError):
    """The restored set has no database of PostgreSQL that could be looked at."""


@contextmanager
def serving(subject: Subject, progress: Progress) -> Iterator[URL]:
    """Serve the restored database during the block; give its address, as a role that may do everything there.

    Raises:
        NothingToServeError: neither data directory nor dump is there.
        RestoredServerError: the server does not start on it.
        RefusedError: the dump cannot be loaded.
        PermanentError: the server is not installed, or the machine does not let it run.
        TransientError: the disk is full.
    """
    database = subject.manifest.database
    directory = subject.restored / "database"
    if database is None or database.engine != "postgresql":
        msg = "the point has no database of PostgreSQL"
        raise NothingToServeError(msg)
    with enterable(subject.restored, directory, subject.scratch):
        if (cluster := directory / CLUSTER).is_dir():
            details = database.details
            with _served(cluster, str(details["role"]), str(details["database"]), subject, progress) as url:
                yield url
        elif (dump := directory / DUMP_FILE).is_file():
            with _loaded(dump, subject, progress) as url:
                yield url
        else:
            msg = f"there is neither {CLUSTER} nor {DUMP_FILE} in what was restored"
            raise NothingToServeError(msg)


@contextmanager
def _served(cluster: Path, role: str, database: str, subject: Subject, progress: Progress) -> Iterator[URL]:
    with private_server(
        cluster,
        role=role,
        database=database,
        tools=subject.postgresql_tools,
        limits=subject.limits,
        tick=lambda: progress("starting the restored server", 0),
    ) as url:
        yield _as_superuser(url)


def _as_superuser(url: URL) -> URL:
    """Give the address of somebody who may do everything: the role that was backed up with may do little."""
    query = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1"
    with opened_session(url) as connection:
        found = connection.exec_driver_sql(query).scalar()
    return url if found is None else url.set(username=str(found))


@contextmanager
def _loaded(dump: Path, subject: Subject, progress: Progress) -> Iterator[URL]:
    """Serve a dump: the first time a server is made for it and it is loaded, later that server is started again."""
    made = subject.scratch / _MADE
    named = made / _NAME_OF_DATABASE
    if named.is_file():
        with _served(made / CLUSTER, _ROLE, named.read_text(), subject, progress) as url:
            yield url
        return
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(mode=0o700)
    with ExitStack() as stack:
        stack.enter_context(enterable(made))
        _make_server(made, subject)
        name = f"drill_{secrets.token_hex(8)}"
        with _served(made / CLUSTER, _ROLE, "postgres", subject, progress) as url:
            _make_database(url, name)
            target = url.set(database=name)
            stage = Stage(directory=made, progress=progress, limits=subject.limits)
            load_dump(dump, target, stage, tools=subject.postgresql_tools)
            named.write_text(name)
            yield target


def _make_server(made: Path, subject: Subject) -> None:
    """Make an empty server of the version that the dump is of, or a newer one."""
    assert subject.manifest.database is not None  # noqa: S101  it was looked at
    wanted = int(subject.manifest.database.server_version.partition(".")[0])
    found = find_tools(subject.postgresql_tools, server_major=wanted)
    initdb = Path(found.path("postgres")).with_name("initdb")
    options = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={_ROLE}"]
    try:
        ended = subprocess.run(
            [*as_server_account(made), str(initdb), *options, "-D", str(made / CLUSTER)],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            timeout=_INITDB_S,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"no server was made for the dump within {_INITDB_S:g} s"
        raise TransientError(msg) from error
    if ended.returncode != 0:
        said = (ended.stderr.strip() or ended.stdout.strip() or "nothing").splitlines()[-1]
        msg = f"no server could be made for the dump: {said}"
        raise PermanentError(msg)


def _make_database(url: URL, name: str) -> None:
    with opened_session(url) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
