"""What is printed, and which code an error ends with."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import redis

from nightcrew.errors import EnqueueError, InvalidUsageError, JobFailedError
from tasks.errors import PermanentError, TransientError
from workers.cli.output import CliError, ExitCode, cli_errors, print_json, print_line, print_table, write_json_list
from workers.settings import SettingsError
from workers.supervisor.errors import AlreadyRunningError, BrokerStartError, DataDirectoryError


def code_of(error: Exception) -> int:
    with cli_errors() as outcome:
        raise error
    return outcome.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(["x: wrong"]), 3),
        (redis.ConnectionError("refused"), 4),
        (redis.TimeoutError("slow"), 4),
        (EnqueueError("away", job_id="1", accepted="unknown"), 4),
        (JobFailedError("failed"), 1),
        (InvalidUsageError("empty key"), 2),
        (PermanentError("corrupt"), 1),
        (TransientError("locked"), 1),
        (BrokerStartError("no memory"), 4),
        (DataDirectoryError("not ours"), 3),
        (AlreadyRunningError("there is one", pid=1), 1),
        (CliError("half", code=ExitCode.DEGRADED), 5),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    """Each kind of error has its code."""
    assert code_of(error) == code


def test_translated_broker_error() -> None:
    """A store's translation of a lost broker still counts as one."""
    error = TransientError("log cannot be read")
    error.__cause__ = redis.ConnectionError("refused")
    assert code_of(error) == ExitCode.BROKER_UNREACHABLE


def test_bugs_pass() -> None:
    """What is nobody's error keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        code_of(ZeroDivisionError())


def test_error_is_one_line_with_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors go to standard error: the line, then what to do."""
    code_of(CliError("no crew runs in [dir]", hint="nightcrew up"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: no crew runs in [dir]\nhint: nightcrew up\n"


def test_json_forms(capsys: pytest.CaptureFixture[str]) -> None:
    """Instants are UTC with a Z, durations seconds, text stays readable."""
    at = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    print_json({"at": at, "took": timedelta(seconds=1.5), "dir": Path("/x"), "key": "größe"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"at": "2026-01-01T00:00:00Z", "took": 1.5, "dir": "/x", "key": "größe"}
    assert "größe" in text


@pytest.mark.parametrize("rows", [[], [{"key": "a"}], [{"key": "a"}, {"key": 'b"\n'}]])
def test_json_list(rows: list[dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """A list written row by row is one valid object."""
    write_json_list({"as_of": datetime(2026, 1, 1, tzinfo=UTC)}, "counts", iter(rows))
    assert json.loads(capsys.readouterr().out) == {"as_of": "2026-01-01T00:00:00Z", "counts": rows}


def test_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe no row is folded, however long, and no colour is written."""
    print_table(("key", "total", "at"), [("k" * 500, 7, datetime(2026, 1, 1, tzinfo=UTC)), ("[red]x", 1234, None)])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert lines[1].split() == ["k" * 500, "7", "2026-01-01", "00:00:00Z"]
    assert lines[2].split() == ["[red]x", "1234", "-"]


def test_keys_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of an app's keys are spelt out."""
    print_line("a\x1b[31mb\nc")
    print_table(("key",), [("a\x1b]0;title\x07b",)])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.splitlines()[0] == "a\\x1b[31mb\\nc"


def test_cli_error_survives_pickling() -> None:
    """Message, hint and code come through."""
    copied = copy.copy(CliError("m", hint="h", code=ExitCode.DEGRADED))
    assert (copied.message, copied.hint, copied.code) == ("m", "h", ExitCode.DEGRADED)
