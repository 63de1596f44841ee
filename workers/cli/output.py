"""What the command prints, and the code it ends with.

Results go to standard output, everything else to standard error. Rich leaves out colours by itself when the output is
not a terminal or `NO_COLOR` is set (https://no-color.org).
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrew.errors import (
    EnqueueError,
    FlushError,
    InvalidMessageError,
    InvalidUrlError,
    InvalidUsageError,
    NightcrewError,
)
from tasks.errors import CrewError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from workers.supervisor.errors import SupervisorError

# Wide enough for any row: only a terminal has an edge at which lines must be folded.
_PIPE_WIDTH = 100_000


class ExitCode(IntEnum):
    """How the command ended; part of the interface."""

    OK = 0
    FAILED = 1
    """A job failed, or the verb could not do what it was asked."""
    USAGE = 2
    """The arguments are wrong."""
    CONFIGURATION = 3
    """The settings are wrong."""
    BROKER_UNREACHABLE = 4
    """No crew runs there, or its broker does not answer."""
    DEGRADED = 5
    """It works, but something needs attention."""


class CliError(Exception):
    """A verb cannot go on; `hint` is what to do about it, best a command line."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which calls the class with `args` alone."""
        return (_cli_error, (self.message, self.hint, self.code))


def _cli_error(message: str, hint: str, code: ExitCode) -> CliError:
    return CliError(message, hint=hint, code=code)


@dataclass(slots=True)
class Outcome:
    """The exit code, once it is known."""

    code: int = ExitCode.OK


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object; instants as ISO 8601 in UTC, durations in seconds, dataclasses as objects."""
    sys.stdout.write(_json(document) + "\n")
    sys.stdout.flush()  # who reads it through a pipe must not wait for the end of `up`


def write_json_list(header: Mapping[str, Any], name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object that ends in a list, a row a line, without ever holding the whole list."""
    out = sys.stdout
    out.write("{")
    for key, value in header.items():
        out.write(f"{_json(key)}: {_json(value)}, ")
    out.write(f"{_json(name)}: [")
    for number, row in enumerate(rows):
        out.write((",\n" if number else "\n") + _json(row))
    out.write("\n]}\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print rows below their headings; numbers to the right. Cells are printed as they are, never as markup."""
    from rich.table import Table
    from rich.text import Text

    rows = [tuple(row) for row in rows]
    table = Table(box=None, title=title, title_justify="left", pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[position], int | float | None) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_as_text(cell)) for cell in row))
    console().print(table)


def print_line(text: str) -> None:
    """Print one line of a result."""
    console().print(printable(text), markup=False, highlight=False, soft_wrap=True)


def print_error(message: str, *, hint: str = "") -> None:
    """Print one line, and below it what to do about it, to standard error."""
    out = console(stderr=True)
    for line in message.splitlines() or [message]:
        out.print("[bold red]error[/]:", end=" ")
        out.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    if hint:
        out.print("[bold]hint[/]:", end=" ")
        out.print(printable(hint), markup=False, highlight=False, soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    """Give a console for standard output, or for standard error."""
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=_PIPE_WIDTH)


def printable(text: str) -> str:
    """Spell out control characters: a key of an app must not steer the operator's terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


@contextmanager
def cli_errors() -> Iterator[Outcome]:
    """Print what goes wrong in the block as one line with a hint, and set the exit code; bugs pass as they are."""
    outcome = Outcome()
    try:
        yield outcome
    except Exception as error:
        translated = _translate(error)
        if translated is None:
            raise
        if translated.message:
            print_error(translated.message, hint=translated.hint)
        outcome.code = translated.code


def _translate(error: Exception) -> CliError | None:
    if isinstance(error, CliError):
        return error
    return _broker_error(error) or _crew_error(error) or _usage_error(error)


def _broker_error(error: Exception) -> CliError | None:
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError

    away = (RedisConnectionError, RedisTimeoutError, EnqueueError, FlushError)
    # Stores translate what redis-py raises, and keep it as the cause.
    if isinstance(error, away) or isinstance(error.__cause__, away):
        return CliError(f"broker unreachable: {error}", hint="nightcrew doctor", code=ExitCode.BROKER_UNREACHABLE)
    return None


def _crew_error(error: Exception) -> CliError | None:
    from workers.settings import SettingsError
    from workers.supervisor.errors import SupervisorError

    if isinstance(error, SettingsError):
        return CliError(str(error), hint="ops/settings.md lists every setting", code=ExitCode.CONFIGURATION)
    if isinstance(error, SupervisorError):
        return _supervisor_error(error)
    if isinstance(error, NightcrewError):
        return _producer_error(error)
    return CliError(str(error), hint="nightcrew doctor") if isinstance(error, CrewError) else None


def _producer_error(error: NightcrewError) -> CliError:
    if isinstance(error, InvalidUrlError):
        return CliError(str(error), code=ExitCode.CONFIGURATION)
    refused = isinstance(error, InvalidMessageError | InvalidUsageError)
    return CliError(str(error), code=ExitCode.USAGE if refused else ExitCode.FAILED)


def _supervisor_error(error: SupervisorError) -> CliError:
    from workers.supervisor.errors import BrokerError, DataDirectoryError, FlowerPortError

    code = ExitCode.FAILED
    if isinstance(error, BrokerError):
        code = ExitCode.BROKER_UNREACHABLE
    elif isinstance(error, DataDirectoryError | FlowerPortError):
        code = ExitCode.CONFIGURATION
    return CliError(str(error), code=code)  # its text says what to do


def _usage_error(error: Exception) -> CliError | None:
    import typer

    # Typer's own copy of click has no public name for these.
    from typer._click.exceptions import ClickException, NoArgsIsHelpError, UsageError

    if isinstance(error, typer.Abort):
        return CliError("aborted")
    if isinstance(error, NoArgsIsHelpError):
        return CliError("", code=ExitCode.USAGE)  # the help has been printed
    if isinstance(error, UsageError):
        path = error.ctx.command_path if error.ctx else "nightcrew"
        return CliError(error.format_message(), hint=f"{path} --help", code=ExitCode.USAGE)
    return CliError(error.format_message()) if isinstance(error, ClickException) else None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=_as_json)


def _as_text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return printable(str(cell))


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    msg = f"{type(value).__name__} has no form in JSON"
    raise TypeError(msg)
