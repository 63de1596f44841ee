"""Where the tools of PostgreSQL are. One of a newer major version serves an older server, never the other way round."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.backups.store.programs import ProgramMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMES: Final = (
    "pg_dump",
    "pg_restore",
    "pg_basebackup",
    "pg_receivewal",
    "pg_verifybackup",
    "pg_combinebackup",
    "postgres",
)
_DEBIAN: Final = Path("/usr/lib/postgresql")
_VERSION: Final = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")
_LONGEST_ANSWER_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program of PostgreSQL."""

    path: Path
    version: str
    major: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools found for a server."""

    server_major: int
    found: Mapping[str, Tool]

    @property
    def majors(self) -> dict[str, int]:
        """Their major versions by name."""
        return {name: tool.major for name, tool in self.found.items()}

    def path(self, name: str) -> str:
        """Give the program.

        Raises:
            ProgramMissingError: it was not found in a version that fits, with what installs it.
        """
        if name in self.found:
            return str(self.found[name].path)
        package = "postgresql" if name == "postgres" else "postgresql-client"
        command = f"sudo apt-get install {package}-{self.server_major}"
        msg = f"{name} of version {self.server_major} or newer is not installed: {command}"
        if name == "postgres":
            msg = f"the server of version {self.server_major} is not installed: {command}"
        raise ProgramMissingError(msg)


def find_tools(directory: Path | None, *, server_major: int) -> Tools:
    """Look in a directory alone if there is one, else where Debian puts them and on the PATH.

    Of each tool the one of the server's own version wins, then the next newer one. The server itself and
    `pg_combinebackup` read nothing but their own version.
    """
    found: dict[str, Tool] = {}
    for name in NAMES:
        candidates = [tool for tool in _candidates(name, directory) if tool.major >= server_major]
        if name in {"postgres", "pg_combinebackup"}:
            candidates = [tool for tool in candidates if tool.major == server_major]
        if candidates:
            found[name] = min(candidates, key=lambda tool: tool.major)
    return Tools(server_major=server_major, found=found)


def _candidates(name: str, directory: Path | None) -> Iterator[Tool]:
    for folder in _folders(directory):
        path = folder / name
        if os.access(path, os.X_OK) and (tool := _tool(path)):
            yield tool


def _folders(directory: Path | None) -> list[Path]:
    if directory is not None:
        return [directory]
    on_path = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    # Debian's first: what it has in /usr/bin chooses a version by rules of its own.
    return [*sorted(_DEBIAN.glob("*/bin")), *on_path]


def _tool(path: Path) -> Tool | None:
    try:
        answer = subprocess.run(
            [path, "--version"], check=False, capture_output=True, text=True, timeout=_LONGEST_ANSWER_S
        )
    except OSError:
        return None
    version = _VERSION.search(answer.stdout)
    return Tool(path=path, version=version[1], major=int(version[2])) if version else None
