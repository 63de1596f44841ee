"""What a running crew says about itself."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workers.supervisor.crew_file import CrewRecord, FlowerAddress, read_record, write_record

if TYPE_CHECKING:
    from pathlib import Path

RECORD = CrewRecord(
    pid=7,
    broker_url="redis://:canary@localhost:6379/0",
    flower=FlowerAddress(url="http://127.0.0.1:5555/", user="nightcrew"),
    children={"broker": 8, "worker-usage": 9},
    ready=("broker",),
    complete=False,
    restarts={"broker": 0, "worker-usage": 2},
    started_at=datetime(2026, 11, 22, 23, 0, tzinfo=UTC),
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is lost on the way, and nobody else can read it."""
    path = tmp_path / "crew.json"
    write_record(path, RECORD)
    assert read_record(path) == RECORD
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_no_record_is_no_crew(tmp_path: Path) -> None:
    """A stopped crew leaves none."""
    assert read_record(tmp_path / "crew.json") is None


def test_the_password_of_the_broker_is_not_shown() -> None:
    """Representations end up in logs."""
    assert "canary" not in repr(RECORD)
