"""Directories of the dead go; those of the living, and of strangers, stay."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tasks.backups.store.sandboxes import sandbox, sweep
from tasks.errors import CancelledError
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_HOLDS = """
import signal, sys
from pathlib import Path
from tasks.backups.store.sandboxes import sandbox
with sandbox(Path(sys.argv[1]), "mine-") as path:
    (path / "part").write_text("x")
    print(path.name, flush=True)
    signal.pause()
"""


def test_a_block_leaves_nothing_whatever_ends_it(tmp_path: Path) -> None:
    """Its directory is private, and goes with it."""
    with pytest.raises(CancelledError), sandbox(tmp_path, "mine-") as path:
        _write_and_be_called_off(path)
    assert list(tmp_path.iterdir()) == []


def _write_and_be_called_off(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o700
    (path / "deep" / "er").mkdir(parents=True)
    raise CancelledError("called off")


def test_what_was_renamed_stays(tmp_path: Path) -> None:
    """That is how a restore publishes what it has made."""
    with sandbox(tmp_path, "mine-") as path:
        path.rename(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("prefix", ["mine-", "m[i]n*e-"])
def test_the_next_one_removes_what_a_killed_one_has_left(tmp_path: Path, prefix: str) -> None:
    """While it lives nobody touches it, and what has another name never."""
    strangers = ["yours-1", "mi", "mine"]
    for name in strangers:
        (tmp_path / name).mkdir()
    code = _HOLDS.replace("mine-", prefix)
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        try:
            sweep(tmp_path, prefix)
            with sandbox(tmp_path, prefix):
                assert (tmp_path / held / "part").exists()
        finally:
            holder.send_signal(signal.SIGKILL)
    wait_until(lambda: holder.poll() is not None, timeout_s=10, what="its end")
    with sandbox(tmp_path, prefix) as path:
        assert {one.name for one in tmp_path.iterdir()} == {*strangers, path.name}
