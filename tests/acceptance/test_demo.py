"""`nightcrew demo` proves what it says, and says so when the proof fails."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from nightcrew import Nightcrew
from tasks.usage.store import UsageQueries
from tests.support import wait_until
from tests.support.databases import opened_engine
from tests.support.processes import is_gone, short_directory
from workers.supervisor.crew_file import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.supervisor.crew_file import CrewRecord

_ROUNDS = 4
_TIMEOUT_S = 150.0
# What one line of data/events.csv.gz counts.
_KEY, _CONTEXT = "UA1545/IAH", "EWR|Tue|05"


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def test_every_line_of_the_proof_holds(data_dir: Path) -> None:
    """Exit code 0, a worker killed on the way, all counts equal, and no process left."""
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with started_demo(data_dir) as demo:
        output, _ = demo.communicate(timeout=_TIMEOUT_S)
    document = json.loads(output)
    proof = {line["claim"]: line for line in document["proof"]}
    assert [claim for claim, line in proof.items() if not line["holds"]] == []
    assert (demo.returncode, document["ok"]) == (0, True)
    assert document["flower"].startswith("http://127.0.0.1:")
    assert proof["difference"]["measured"] == proof["single counts that differ"]["measured"] == "0"
    assert proof["events sent"]["measured"] == proof["counts in the database"]["measured"]
    left = [one for one in psutil.Process().children(recursive=True) if one.pid not in before and not is_gone(one.pid)]
    assert left == []


@pytest.mark.long
def test_one_count_too_many_fails_the_proof(data_dir: Path) -> None:
    """Another app counts one of the keys meanwhile; the demo, on the database of its first run, notices the one."""
    with opened_engine(f"sqlite:///{data_dir / 'nightcrew.db'}") as engine, started_demo(data_dir) as demo:
        known = UsageQueries(engine).sums().total
        record = wait_until(lambda: complete_record(data_dir), timeout_s=_TIMEOUT_S, what="the crew of the demo")
        wait_until(lambda: UsageQueries(engine).sums().total > known, timeout_s=_TIMEOUT_S, what="its first counts")
        with Nightcrew(record.broker_url) as stranger:
            stranger.usage.increment(_KEY, context=_CONTEXT, accepted=True)
        output, _ = demo.communicate(timeout=_TIMEOUT_S)
    document = json.loads(output)
    proof = {line["claim"]: line for line in document["proof"]}
    assert (demo.returncode, document["ok"]) == (1, False)
    assert not proof["single counts that differ"]["holds"]
    assert proof["single counts that differ"]["measured"] == "1"
    assert proof["hourly history sums to the counts"]["holds"]


def started_demo(data_dir: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "workers.cli", "demo", "--json", f"--rounds={_ROUNDS}", "--data-dir", str(data_dir)]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)


def complete_record(data_dir: Path) -> CrewRecord | None:
    record = read_record(data_dir / "run" / "crew.json")
    return record if record is not None and record.complete else None
