"""The table of verbs, help without loading anything, and exit codes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from workers.cli.verbs import VERBS, installed_verbs, load_verb, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer._click import Command

_HEAVY = ("celery", "kombu", "sqlalchemy", "alembic", "pydantic", "redis", "flower", "structlog", "psutil")
_HELP = """
import sys
from workers.cli.verbs import run
code = run(["--help"])
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""


def leaves(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    below: dict[str, Command] = getattr(command, "commands", {})
    if not below:
        yield path, command
    for name, one in below.items():
        yield from leaves(f"{path} {name}", one)


def test_help_loads_nothing_heavy() -> None:
    """`nightcrew --help` lists the verbs without importing what they stand on."""
    done = subprocess.run([sys.executable, "-c", _HELP], capture_output=True, text=True, timeout=60, check=True)
    help_text, _, loaded = done.stdout.partition("LOADED")
    assert all(verb in help_text for verb in installed_verbs())
    assert not set(loaded.split()) & set(_HEAVY)


def test_only_verbs_that_exist_are_listed() -> None:
    """The verbs listed are those of the table whose modules are there."""
    assert set(installed_verbs()) <= set(VERBS)
    assert "config" in installed_verbs()


@pytest.mark.parametrize("verb", installed_verbs())
def test_every_command_takes_the_shared_options(verb: str) -> None:
    """Each command has --data-dir, --json and a line of help."""
    for path, command in leaves(verb, load_verb(verb)):
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--data-dir", "--json"} <= options, path
        assert "--show-completion" not in options, path
        assert command.help, path


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["confg"], "No such command 'confg'. Did you mean 'config'?", "nightcrew --help"),
        (["config", "show", "--orign"], "No such option: --orign", "nightcrew config show --help"),
    ],
)
def test_wrong_arguments(arguments: list[str], error: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments end with 2, one line and where to look."""
    assert run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {error}")
    assert lines[1] == f"hint: {hint}"


def test_no_arguments_give_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`nightcrew` alone shows the help and no error line."""
    assert run([]) == 2
    shown = capsys.readouterr()
    assert "config" in shown.out + shown.err
    assert "error:" not in shown.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints one line and ends with 0."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("nightcrew ")
