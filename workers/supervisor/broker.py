"""The broker of the embedded default: a Redis or Valkey server of the crew's own.

It listens on a unix socket that only this user can open, and keeps an append-only file in
`<data>/broker`. The server's own SIGTERM handling is the stop: it writes and syncs the file and exits.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from redis.exceptions import RedisError

from nightcrew._redis import connect, mask_url
from workers.supervisor.broker_configuration import render_configuration
from workers.supervisor.broker_program import find_program
from workers.supervisor.directories import place_socket, prepare_directory, remove_socket
from workers.supervisor.errors import BrokerStartError, BrokerUnreachableError

if TYPE_CHECKING:
    from workers.supervisor.broker_configuration import AppendFsync
    from workers.supervisor.broker_program import ServerChoice

# The watch over all others waits meanwhile.
_PROBE_TIMEOUT_S: Final = 1.0
_REACH_TIMEOUT_S: Final = 5.0

# What the servers write before they give up, and what helps.
_TROUBLES: Final = (
    (
        r"Bad file format reading the append only file|Unexpected end of file reading the append only file",
        "its append-only file is damaged: keep a copy of '{files}', then run {repair} --fix '{files}/{manifest}'",
    ),
    (
        r"Can't handle RDB format|Wrong signature trying to load DB",
        "its files were written by a newer server: set broker.server to the one that wrote them, or update this one",
    ),
    (
        r"No space left on device",
        "the disk is full: make room for {directory}",
    ),
    (
        r"Permission denied",
        "files in it belong to someone else: chown -R {user} '{directory}'",
    ),
)


class EmbeddedBroker:
    """Files and address of the server; the process itself is a `Child` of the crew."""

    def __init__(self, data_dir: Path, *, choice: ServerChoice, appendfsync: AppendFsync = "always") -> None:
        self._directory = data_dir / "broker"
        self._wanted_socket = self._directory / "broker.sock"
        self._choice = choice
        self._appendfsync: AppendFsync = appendfsync
        self._program = Path("redis-server")
        self.socket = self._wanted_socket

    @property
    def url(self) -> str:
        """Its address in the form that apps write."""
        return f"unix://{quote(str(self.socket))}?db=0"

    def prepare(self) -> tuple[str, ...]:
        """Write the configuration and give the command; the caller holds the lock of the data directory.

        Raises:
            NoBrokerProgramError: no usable server program is here.
            DataDirectoryError: the directory cannot be used as it is.
            BrokerStartError: a server that is not ours answers at the socket.
        """
        self._program = program = find_program(self._choice)
        prepare_directory(self._directory)
        self.socket = place_socket(self._wanted_socket)
        self._refuse_stranger()
        configuration = self._directory / "broker.conf"
        configuration.touch(mode=0o600)
        text = render_configuration(directory=self._directory, socket=self.socket, appendfsync=self._appendfsync)
        configuration.write_bytes(text)
        return (str(program), str(configuration))

    def is_ready(self, pid: int) -> bool:
        """Tell whether the server with this pid, and no other, answers and has read its file."""
        found = self._ask()
        return found is not None and found == (pid, False)

    def explain_failure(self, log_tail: str) -> BrokerStartError:
        """Say why the server did not come up, from the end of its log, and what to do."""
        for pattern, remedy in _TROUBLES:
            if re.search(pattern, log_tail):
                advice = remedy.format(
                    directory=self._directory,
                    files=self._directory / "appendonlydir",
                    manifest="appendonly.aof.manifest",
                    repair=self._repair_command(),
                    user=os.geteuid(),
                )
                return BrokerStartError(f"the broker did not start: {advice}")
        return BrokerStartError(f"the broker did not start; the end of its log:\n{log_tail}")

    def clean_up(self) -> None:
        """Remove what only a running server needs."""
        remove_socket(self.socket, wanted=self._wanted_socket)

    def _repair_command(self) -> str:
        """Give the repair program; a server that is called by its name is one."""
        beside = self._program.with_name(self._program.name.replace("-server", "-check-aof"))
        if beside.exists():
            return str(beside)
        return f"bash -c 'exec -a {beside.name} \"$0\" \"$@\"' '{self._program}'"

    def _refuse_stranger(self) -> None:
        if (found := self._ask()) is not None:
            msg = (
                f"a server that this crew did not start answers at {self.socket} (pid {found[0]}): "
                f"end it with `kill {found[0]}`"
            )
            raise BrokerStartError(msg)

    def _ask(self) -> tuple[int, bool] | None:
        """Give pid and whether it is still loading; None: nobody answers, or not yet."""
        try:
            with connect(self.url, timeout_s=_PROBE_TIMEOUT_S) as client:
                answer = client.info()
                if not answer["loading"]:
                    client.ping()
        except (RedisError, OSError):
            return None
        return answer["process_id"], bool(answer["loading"])


def check_reachable(url: str) -> None:
    """Make sure that the broker of the settings answers.

    Raises:
        BrokerUnreachableError: it does not; the text has its address without the password.
    """
    try:
        with connect(url, timeout_s=_REACH_TIMEOUT_S) as client:
            client.ping()
    except (RedisError, OSError) as error:
        msg = f"no answer from {mask_url(url)} ({error}): start that server, or correct NIGHTCREW_BROKER__URL"
        raise BrokerUnreachableError(msg) from error
