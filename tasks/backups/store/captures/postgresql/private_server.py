"""A server of our own on a restored data directory: reached through a unix socket, and by nobody else.

It takes no settings from the directory, which are those of another machine, and starts nothing that would change what
was restored. PostgreSQL refuses to run as root; then it runs as `postgres`, or as `nobody` where there is none.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from sqlalchemy import URL

from tasks.backups.store.captures.postgresql.sessions import conninfo
from tasks.backups.store.captures.postgresql.tools import find_tools
from tasks.backups.store.sandboxes import sandbox, sweep
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tasks.backups.staging import Limits

_LONGEST_SOCKET_PATH: Final = 107
_NAME_OF_SOCKET: Final = len("/.s.PGSQL.5432")
_PREFIX: Final = "nightcrew-pg-"
_POLL_S: Final = 0.05
_CHECKPOINT_S: Final = 120.0
"""For a stop in order, which writes everything to the disk."""
_QUIT_S: Final = 10.0
"""For a stop at once; one that came while the server was starting was once not heard."""
_LINES_SHOWN: Final = 3
_SETTINGS: Final = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "autovacuum": "off",
    "archive_mode": "off",
    "archive_command": "",
    "primary_conninfo": "",
    "hot_standby": "off",
    "max_connections": "20",
    "max_prepared_transactions": "100",
    "shared_buffers": "64MB",
    "shared_preload_libraries": "",
    "ssl": "off",
    "log_destination": "stderr",
    "logging_collector": "off",
    "lc_messages": "C",
    "max_slot_wal_keep_size": "0",
}
_HBA: Final = "local all all trust\n"  # the socket lies in a directory that nobody else can enter


class RestoredServerError(PermanentError):
    """A server does not run on what was restored; the text has its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where sockets, settings and messages of the server are, and whose it is."""

    directory: Path
    account: pwd.struct_passwd | None
    """None: our own."""


@contextmanager
def private_server(
    cluster: Path,
    *,
    role: str,
    database: str,
    tools: Path | None,
    limits: Limits,
    tick: Callable[[], None],
    settings: Mapping[str, str] | None = None,
) -> Iterator[URL]:
    """Run a server on a data directory during the block; give the address of a database on it once it is ready.

    It is ready when it has replayed what it was told to. `tick` is a checkpoint meanwhile, twice a second at least.

    Raises:
        ProgramMissingError: the server of this version is not installed.
        RestoredServerError: it ends by itself, or is another one than was captured.
        PermanentError: the machine does not let it run, or it does not stop in order.
    """
    found = find_tools(tools, server_major=int((cluster / "PG_VERSION").read_text().strip()))
    program = found.path("postgres")
    with _place(cluster) as place:
        server = _start(program, cluster, place, limits, {**_SETTINGS, **(settings or {})})
        url = URL.create("postgresql+psycopg", role, host=None, database=database, query={"host": str(place.directory)})
        try:
            _wait(server, place, url, tick)
            yield url
        except BaseException:
            _stop(server, signal.SIGQUIT)  # at once: nobody wants the directory any more
            raise
        _stop(server, signal.SIGINT)
        if server.returncode != 0:
            msg = f"the server of the restored database did not stop in order: {_last_words(place)}"
            raise PermanentError(msg)


def as_server_account(directory: Path) -> list[str]:
    """Give what to put before a program of PostgreSQL: it dies with us, and is not root, for whom it would not run.

    A directory is handed over to the account that it runs as then.

    Raises:
        PermanentError: there is no account to run it as.
    """
    account = _account() if os.geteuid() == 0 else None
    if account is not None:
        _hand_over(directory, account)
    return ["setpriv", *_as(account), "--pdeathsig", "KILL", "--"]


def sweep_servers() -> None:
    """Remove what servers have left whose process was killed; the servers themselves died with it."""
    sweep(_short_root(), _PREFIX)


@contextmanager
def _place(cluster: Path) -> Iterator[_Place]:
    account = _account() if os.geteuid() == 0 else None
    with sandbox(_short_root(), _PREFIX) as directory:
        (directory / "postgresql.conf").touch()
        (directory / "pg_ident.conf").touch()
        (directory / "pg_hba.conf").write_text(_HBA)
        if account is not None:
            _hand_over(directory, account)
            _hand_over(cluster, account)
            _check_reachable(cluster, account)
        yield _Place(directory=directory, account=account)


def _start(
    program: str, cluster: Path, place: _Place, limits: Limits, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    here = place.directory
    own = {"config_file": str(here / "postgresql.conf"), "hba_file": str(here / "pg_hba.conf")}
    own |= {"ident_file": str(here / "pg_ident.conf"), "unix_socket_directories": str(here)}
    options = [f"-c{name}={value}" for name, value in {**settings, **own}.items()]
    # SIGQUIT makes it end at once with all its processes; the kernel sends it when we die.
    tied = ["setpriv", *_as(place.account), "--pdeathsig", "QUIT", "--"]
    polite = ["nice", "-n", str(limits.nice), *(["ionice", "-c", "3", "-t"] if limits.idle_io else [])]
    with (here / "log").open("wb") as log:
        return subprocess.Popen(
            [*tied, *polite, program, "-D", cluster, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            umask=0o077,
        )


def _wait(server: subprocess.Popen[bytes], place: _Place, url: URL, tick: Callable[[], None]) -> None:
    while True:
        tick()
        if server.poll() is not None:
            msg = f"the restored database does not start: {_last_words(place)}"
            raise RestoredServerError(msg)
        try:
            with psycopg.connect(conninfo(url), connect_timeout=10):
                return
        except psycopg.OperationalError as error:
            if "does not exist" in str(error):  # the role or the database: waiting will not make it
                msg = f"the restored server is not the one that was captured: {str(error).splitlines()[-1].strip()}"
                raise RestoredServerError(msg) from error
            time.sleep(_POLL_S)


def _stop(server: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """End it; SIGINT makes it take a last checkpoint, so that the directory is whole by itself."""
    for request in (first, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is None:
            server.send_signal(request)
            try:
                server.wait(_QUIT_S if request is signal.SIGQUIT else _CHECKPOINT_S)
            except subprocess.TimeoutExpired:
                continue
    server.wait()


def _last_words(place: _Place) -> str:
    """Give what tells most in what the server has written."""
    lines = (place.directory / "log").read_text(errors="replace").splitlines()
    telling = [line.partition("FATAL:")[2] or line for line in lines if "FATAL" in line or "PANIC" in line]
    return " · ".join(line.strip() for line in (telling or lines)[-_LINES_SHOWN:]) or "it said nothing"


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    msg = "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` to run it as"
    raise PermanentError(msg)


def _as(account: pwd.struct_passwd | None) -> list[str]:
    if account is None:
        return []
    return [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


def _hand_over(directory: Path, account: pwd.struct_passwd) -> None:
    for path in (directory, *directory.rglob("*")):
        os.lchown(path, account.pw_uid, account.pw_gid)


def _check_reachable(cluster: Path, account: pwd.struct_passwd) -> None:
    argv = ["setpriv", *_as(account), "--", "test", "-r", str(cluster / "PG_VERSION")]
    if subprocess.run(argv, check=False, cwd="/").returncode != 0:
        msg = (
            f"PostgreSQL refuses to run as root, and the account {account.pw_name} cannot reach {cluster}: "
            "restore as another user, or into a directory that other accounts can enter"
        )
        raise PermanentError(msg)


def _short_root() -> Path:
    root = Path(tempfile.gettempdir())
    fits = len(os.fsencode(root)) + len(f"/{_PREFIX}12345678") + _NAME_OF_SOCKET < _LONGEST_SOCKET_PATH
    return root if fits else Path("/tmp")  # noqa: S108  mkdtemp makes the directory unguessable and private
