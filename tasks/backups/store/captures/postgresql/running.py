"""Running the tools of PostgreSQL, and what their failures mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tasks.backups.store.programs import run
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.staging import Limits
    from tasks.backups.store.captures.postgresql.tools import Tools
    from tasks.backups.store.programs import Finished

_WORLD: Final = re.compile(
    r"No space left|Disk quota|connection to server|could not connect|server closed the connection|terminating"
    r"|shutting down|starting up|recovery mode|too many clients|lock timeout|max_wal_senders|slots are in use"
    r"|could not receive data|could not send data|no connection to the server|SSL SYSCALL|timeout expired|deadlock"
)
_ERROR: Final = re.compile(r"(?:error|fatal|FATAL|ERROR): +(.+)")


class RefusedError(PermanentError):
    """A tool has said no for a reason that trying again does not take away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """Tools, and the frame that they run in."""

    tools: Tools
    environment: Mapping[str, str] = field(repr=False)
    """Where the server is and who we are: the password too, and nothing of it is an argument."""
    cwd: Path
    limits: Limits

    def run(
        self, name: str, *arguments: str | Path, tick: Callable[[], None], on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """Run a tool to its end; `on_line` gets what it writes, line by line.

        Raises:
            TransientError: the server has gone, the disk is full, something was locked for too long, or the tool was
                killed.
            RefusedError: all other failures.
            ProgramMissingError: see `Tools.path`.
        """
        tick()
        finished = run(
            [self.tools.path(name), *(str(argument) for argument in arguments)],
            env=self.environment,
            cwd=self.cwd,
            limits=self.limits,
            tick=tick,
            on_line=on_line,
        )
        if finished.code != 0:
            raise _failure(name, finished)
        return finished


def _failure(name: str, finished: Finished) -> TransientError | RefusedError:
    said = _first_error(finished.errors.splitlines()) or finished.last_words
    msg = f"{name} failed: {said}"
    # Programs tidy up after an error and talk about it: all that was said is looked at.
    is_killed = finished.code < 0
    return TransientError(msg) if is_killed or _WORLD.search(finished.errors) else RefusedError(msg)


def _first_error(lines: Sequence[str]) -> str:
    for line in lines:
        if found := _ERROR.search(line):
            return found[1].strip()
    return ""
