"""A program that waits for ever is ended, and one that works is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tasks.backups.staging import Limits
from tasks.backups.store.programs import run
from tasks.backups.store.pulse import StalledError

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = Limits(nice=0, idle_io=False, patience_s=0.8)
_TALKS = "import sys, time\nfor _ in range(12): print('x' * 200_000, flush=True); time.sleep(0.2)"
_WAITS = "import time\nwhile True: print('0.00%', flush=True); time.sleep(0.2)"


def test_a_program_that_only_waits_is_ended(tmp_path: Path) -> None:
    """Although it goes on to say how far it is; left alone, it would never end."""
    with pytest.raises(StalledError, match="neither read, written nor worked"):
        run([sys.executable, "-c", _WAITS], env={}, cwd=tmp_path, limits=LIMITS, tick=lambda: None)


def test_a_program_that_moves_bytes_is_left_alone(tmp_path: Path) -> None:
    """For however long."""
    finished = run([sys.executable, "-c", _TALKS], env={}, cwd=tmp_path, limits=LIMITS, tick=lambda: None)
    assert finished.code == 0
