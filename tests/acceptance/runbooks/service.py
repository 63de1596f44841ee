"""Starts and stops a crew as a service manager does: `service.py start|stop DATA_DIR`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import wait_until
from tests.support.processes import is_gone

_PATIENCE_S = 90


def main(what: str, data_dir: Path) -> None:
    """Do it, and wait until it is done."""
    record = data_dir / "run" / "crew.json"
    if what == "stop":
        _stop(record)
        return
    with (data_dir.parent / "crew.log").open("ab") as log:
        crew = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "up", "--data-dir", data_dir],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_until(lambda: _is_ready(record, crew), timeout_s=_PATIENCE_S, what="a crew that is ready")


def _is_ready(record: Path, crew: subprocess.Popen[bytes]) -> bool:
    if crew.poll() is not None:
        msg = f"the crew ended with {crew.returncode}"
        raise SystemExit(msg)
    try:
        said = json.loads(record.read_text())
    except (OSError, ValueError):
        return False
    return bool(said["pid"] == crew.pid and set(said["children"]) <= set(said["ready"]) | {"broker"})


def _stop(record: Path) -> None:
    pid = json.loads(record.read_text())["pid"]
    if not is_gone(pid):
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: is_gone(pid), timeout_s=_PATIENCE_S, what="the end of the crew")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
