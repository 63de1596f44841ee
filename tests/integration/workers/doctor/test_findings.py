"""Each check finds the real thing that is wrong, and nothing when nothing is."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert

from nightcrew import wire
from nightcrew._redis import kombu_url
from tasks.ledger.dead_letters import letter_of_entry
from tasks.ledger.store import streams
from tasks.ledger.store.queues import unacked_key
from tasks.transactions import begin_write
from tasks.usage.tables import UsageIncident
from tests.support import wait_until
from tests.support.processes import spawned
from tests.support.redis import running_redis
from workers.doctor import Finding, Limits, Patient, examine
from workers.doctor.consumers import workers_by_queue
from workers.lifecycle import build_runtime
from workers.settings import load_settings
from workers.supervisor.crew_file import CrewRecord, write_record

if TYPE_CHECKING:
    from redis import Redis

LEDGER = "nightcrew.ledger"
QUIET = Limits(low_disk_bytes=0, low_disk_share=0.0)
"""The disk of the machine that runs the tests is not under test."""
HOUR_AGO = timedelta(hours=1)


def findings(patient: Patient) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(patient).findings}


def worrying(patient: Patient) -> dict[str, str]:
    """Give what is wrong, but for the workers, of which these tests have none."""
    examined = findings(replace(patient, limits=QUIET))
    found: dict[str, str] = {name: one.level for name, one in examined.items() if one.level != "ok"}
    found.pop("workers", None)
    return found


@pytest.fixture
def redis(patient: Patient) -> Redis:
    return patient.runtime.redis


def test_all_is_quiet(patient: Patient) -> None:
    """With a worker on each queue nothing is found, and every finding that is well needs no fix."""
    argv = [sys.executable, "-m", "celery", "-b", kombu_url(patient.broker_url), "worker", "-P", "solo"]
    options = ["-Q", "nightcrew.usage,nightcrew.ledger,nightcrew.analysis", "--without-gossip", "--without-mingle"]
    with spawned([*argv, *options]):
        wait_until(
            lambda: workers_by_queue(patient.broker_url, timeout_s=0.2), timeout_s=30, what="an answer of the worker"
        )
        found = findings(replace(patient, limits=QUIET, answer_within_s=1.0))
    assert {name: one.detail for name, one in found.items() if one.level != "ok" or one.fix} == {}
    assert len(found) >= 25


def test_nothing_is_changed(patient: Patient, redis: Redis) -> None:
    """An examination leaves no key and no file behind."""
    files, keys = set(patient.settings.data_dir.iterdir()), redis.keys()
    findings(patient)
    left = [key for key in redis.scan_iter() if not key.startswith(b"_kombu.binding_deadlines")]
    assert sorted(left) == sorted(keys)
    # SQLite keeps its log beside the file as long as somebody has it open.
    new = {path.name for path in set(patient.settings.data_dir.iterdir()) - files}
    assert new <= {"nightcrew.db-wal", "nightcrew.db-shm"}


def test_forgetful_broker(patient: Patient) -> None:
    """A server that evicts and keeps nothing on disk is found, with commands that mend it."""
    with running_redis(options={"maxmemory-policy": "allkeys-lru", "appendonly": "no", "maxmemory": "100mb"}) as server:
        runtime = replace(patient.runtime, redis=server.client())
        found = findings(replace(patient, runtime=runtime, broker_url=server.url))
        assert (found["broker-eviction"].level, found["broker-persistence"].level) == ("error", "error")
        assert found["broker-memory"].level == "ok"
        for check in ("broker-eviction", "broker-persistence"):
            command = found[check].fix.partition(" && ")[0]
            assert subprocess.run(shlex.split(command), check=False, capture_output=True).returncode == 0
        found = findings(replace(patient, runtime=runtime, broker_url=server.url))
        assert (found["broker-eviction"].level, found["broker-persistence"].level) == ("ok", "ok")


def test_absent_broker(patient: Patient, tmp_path: Path) -> None:
    """Without a broker the rest is examined all the same."""
    url = f"unix://{tmp_path}/nobody.sock?db=0"
    runtime = build_runtime(patient.settings, broker_url=url, worker_name="doctor@test")
    found = findings(replace(patient, runtime=runtime, broker_url=url))
    assert found["broker"].level == "error"
    assert {"disk", "database", "migrations", "timetable"} <= found.keys()
    assert not {"beat", "workers", "usage-lag"} & found.keys()


def test_data_directory_that_is_none(patient: Patient, tmp_path: Path) -> None:
    """A file in its place, and a place that takes no files, are found."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", Path("/proc/nightcrew")):
        found = findings(replace(patient, settings=load_settings(path, env={})))
        assert found["data-directory"].level == "error", path
        assert found["data-directory"].fix


@pytest.mark.parametrize(("share", "level"), [(0.0, "ok"), (1.0, "warning")])
def test_full_disk(patient: Patient, share: float, level: str) -> None:
    """The real disk, judged by another limit."""
    free = os.statvfs(patient.settings.data_dir)
    exact = share and min(1.0, 1.5 * free.f_bavail / free.f_blocks)
    found = findings(replace(patient, limits=Limits(low_disk_bytes=0, low_disk_share=exact)))
    assert found["disk"].level == level


def test_exposed_secrets(patient: Patient, tmp_path: Path) -> None:
    """Files with secrets that others can read are found, and the fix closes them."""
    (tmp_path / "nightcrew.toml").write_text(f'[broker]\nurl = "{patient.broker_url}"\n', encoding="utf-8")
    (tmp_path / "flower.password").write_text("canary\n", encoding="utf-8")
    for name in ("nightcrew.toml", "flower.password"):
        (tmp_path / name).chmod(0o644)
    exposed = replace(patient, settings=load_settings(tmp_path, env={}))
    found = findings(exposed)["secrets"]
    assert found.level == "error"
    subprocess.run(found.fix.split(), check=True)
    assert findings(exposed)["secrets"].level == "ok"


def test_stale_crew_file(patient: Patient, tmp_path: Path) -> None:
    """The record of a crew that was killed is found; one that is no JSON as well."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "run").mkdir()
    record = CrewRecord(
        pid=ended.pid,
        broker_url="unix:///x",
        flower=None,
        children={},
        ready=(),
        complete=True,
        restarts={},
        started_at=datetime.now(UTC),
    )
    write_record(tmp_path / "run" / "crew.json", record)
    assert worrying(patient) == {"crew": "warning"}
    (tmp_path / "run" / "crew.json").write_text("[]", encoding="utf-8")
    assert worrying(patient) == {"crew": "error"}


def test_pending_migration(patient: Patient, tmp_path: Path) -> None:
    """A database without our tables is found, and stays as it is."""
    (tmp_path / "nightcrew.db").unlink()
    with sqlite3.connect(tmp_path / "nightcrew.db") as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE stranger (x)")
    raw.close()
    assert worrying(patient) == {"migrations": "error"}
    assert worrying(patient) == {"migrations": "error"}


def test_absent_and_damaged_database(patient: Patient, tmp_path: Path) -> None:
    """No file is a warning and makes none; a file that is no database is an error."""
    path = tmp_path / "nightcrew.db"
    path.unlink()
    assert worrying(patient) == {"database": "warning"}
    assert not path.exists()
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    assert worrying(patient)["database"] == "error"


def test_sqlite_without_wal(patient: Patient, tmp_path: Path) -> None:
    """A file that another program has taken out of WAL mode is found."""
    raw = sqlite3.connect(tmp_path / "nightcrew.db")
    raw.execute("PRAGMA journal_mode = DELETE")
    raw.close()
    assert worrying(patient) == {"database-journal": "warning"}


def test_clock_skew(patient: Patient) -> None:
    """A clock of ours that is ahead is found against both servers."""
    fast = replace(patient.runtime, clock=lambda: datetime.now(UTC) + timedelta(seconds=5))
    found = findings(replace(patient, runtime=fast))
    for check in ("broker-clock", "database-clock"):
        assert found[check].level == "warning"
        assert "-5.0" in found[check].detail or "-4.9" in found[check].detail


def test_silent_beat_and_idle_queues(patient: Patient, redis: Redis) -> None:
    """A heartbeat that is old, unreadable or missing is a dead beat; nobody answers for the queues."""
    for sign in (repr(time.time() - 31), "noise", None):
        redis.delete(wire.BEAT_HEARTBEAT)
        if sign is not None:
            redis.set(wire.BEAT_HEARTBEAT, sign)
        found = findings(patient)
        assert (found["beat"].level, found["workers"].level) == ("error", "error")
    assert LEDGER in found["workers"].detail


def test_what_waits_too_long(patient: Patient, redis: Redis) -> None:
    """Old messages, messages that workers hold, and jobs that nobody takes in are found."""
    then = time.time() - HOUR_AGO.total_seconds()
    redis.lpush(LEDGER, json.dumps({"headers": {wire.HEADER_ENQUEUED_AT: then}}))
    redis.hset(unacked_key(LEDGER), "tag", "message")
    redis.zadd(f"{unacked_key(LEDGER)}:index", {"tag": then})
    redis.xadd(wire.INTENTS, {"v": "1"}, id=f"{int(then * 1000)}-0")
    assert worrying(patient) == {"queue-age": "error", "unacked": "warning", "intents": "error"}


def test_usage_log_in_trouble(patient: Patient, redis: Redis) -> None:
    """A log that is not drained, an incident, a bell without an end and another count of partitions are found."""
    then = datetime.now(UTC) - HOUR_AGO
    redis.xadd(wire.usage_stream(0), {"v": "1"}, id=f"{int(then.timestamp() * 1000)}-0")
    redis.hset(wire.USAGE_META, "partitions", "3")
    redis.set(wire.usage_bell(0), "1")
    with begin_write(patient.runtime.engine) as connection:
        incident = {"partition": 0, "kind": "epoch_changed", "detail": "another log", "happened_at": then}
        connection.execute(insert(UsageIncident), [incident])
    assert worrying(patient) == {
        "usage-lag": "error",
        "usage-incidents": "warning",
        "doorbells": "warning",
        "partitions": "warning",
    }


def test_dead_letters_and_overdue_slots(patient: Patient, redis: Redis) -> None:
    """A letter that was not even taken in counts; an entry that never ran since the crew started is overdue."""
    now = datetime.now(UTC)
    letter = letter_of_entry(source=wire.INTENTS, fields={b"x": b"\xff"}, reason="unreadable", received_at=now)
    streams.append_dead_letter(redis, letter)
    late = replace(patient, started_at=now - HOUR_AGO)
    assert worrying(late) == {"dead-letters": "warning", "timetable": "error"}
