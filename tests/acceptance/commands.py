"""The command, run as a person runs it: in a process of its own, judged by exit code and output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a run of the command gave."""

    code: int
    output: str
    errors: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object on standard output, which must be all there is."""
        found = json.loads(self.output)
        assert type(found) is dict
        return found


def run_nightcrew(
    *arguments: str | Path,
    data_dir: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> Answer:
    """Run `nightcrew` with these arguments on the crew of a data directory, whatever the exit code."""
    argv = [sys.executable, "-m", "workers.cli", *map(str, arguments), "--data-dir", str(data_dir)]
    done = subprocess.run(
        argv,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout_s,
        start_new_session=True,
    )
    return Answer(code=done.returncode, output=done.stdout, errors=done.stderr)


def ask(*arguments: str | Path, data_dir: Path, code: int = 0, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `nightcrew … --json`, which must end with this exit code, and give the object it prints."""
    answer = run_nightcrew(*arguments, "--json", data_dir=data_dir, env=env)
    assert answer.code == code, f"{arguments} ended with {answer.code}: {answer.output}{answer.errors}"
    return answer.document
