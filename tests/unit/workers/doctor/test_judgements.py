"""Each pure check, on both sides of its limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.usage.operations import Backlog
from tasks.usage.position import Incident
from workers.doctor import Limits
from workers.doctor.broker import Skew, check_broker, check_clock, read_info, redis_cli
from workers.doctor.machine import (
    CrewFacts,
    DiskFacts,
    PackageFacts,
    check_crew,
    check_disk,
    check_packages,
    check_python,
)
from workers.doctor.timetable import SlotFacts, check_timetable
from workers.doctor.work import (
    QueueFacts,
    check_beat,
    check_dead_letters,
    check_intents,
    check_partitions,
    check_queue_age,
    check_unacked,
    check_usage_incidents,
    check_usage_lag,
    check_workers,
)

if TYPE_CHECKING:
    from tasks.ledger.judging import EntryVerdict

LIMITS = Limits()
GIB = 1024**3
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEALTHY = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "used_memory": 50,
    "maxmemory": 100,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
}


def levels(**info: Any) -> dict[str, str]:
    facts = read_info({**HEALTHY, **info})
    return {found.check: found.level for found in check_broker(facts, "redis://localhost/0", LIMITS)}


def queue(**facts: Any) -> QueueFacts:
    quiet = {"length": 0, "oldest_age": None, "unacked": 0, "oldest_unacked_age": None, "workers": 1}
    return QueueFacts(name="nightcrew.usage", **{**quiet, **facts})


@pytest.mark.parametrize(
    ("info", "check", "level"),
    [
        ({}, "broker-version", "ok"),
        ({"redis_version": "6.2.14"}, "broker-version", "error"),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0"}, "broker-version", "ok"),
        ({"redis_version": "what"}, "broker-version", "error"),
        ({"maxmemory_policy": "allkeys-lru"}, "broker-eviction", "error"),
        ({"aof_enabled": 0}, "broker-persistence", "error"),
        ({"aof_last_write_status": "err"}, "broker-persistence", "error"),
        ({"used_memory": 85}, "broker-memory", "warning"),
        ({"used_memory": 95}, "broker-memory", "error"),
        ({"used_memory": 95, "maxmemory": 0}, "broker-memory", "ok"),
    ],
)
def test_broker(info: dict[str, Any], check: str, level: str) -> None:
    """Each property of the server has its own judgement, and one that is bad leaves the others alone."""
    found = levels(**info)
    assert found.pop(check) == level
    assert set(found.values()) == {"ok"}


def test_valkey_is_called_by_its_name() -> None:
    """Valkey's own version is shown, although Redis' decides."""
    facts = read_info({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0"})
    assert (facts.server, facts.version, facts.compatible) == ("Valkey", "8.1.0", (7, 2))


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("unix:///run/x.sock?db=0", "redis-cli -s '/run/x.sock'"),
        ("rediss://:canary@h:7000/1", "redis-cli -h h -p 7000 --tls --askpass"),
        ("redis://h", "redis-cli -h h -p 6379"),
        ("redis://viewer:canary@h", "redis-cli -h h -p 6379 --user viewer --askpass"),
        ("rediss://h?ssl_ca_certs=/my%20ca.pem", "redis-cli -h h -p 6379 --tls --cacert '/my ca.pem'"),
    ],
)
def test_fixes_never_show_a_password(url: str, command: str) -> None:
    """The command reaches the server and asks for its password."""
    assert redis_cli(url) == command


@pytest.mark.parametrize(
    ("seconds", "round_trip_s", "level"),
    [(0.9, 0.0, "ok"), (-1.1, 0.0, "warning"), (1.4, 1.0, "ok"), (1.6, 1.0, "warning")],
)
def test_clock(seconds: float, round_trip_s: float, level: str) -> None:
    """What the measurement itself may be wrong by is not held against the clock."""
    skew = Skew(seconds=seconds, round_trip_s=round_trip_s)
    assert check_clock("broker-clock", skew, LIMITS, whose="the broker").level == level


@pytest.mark.parametrize(
    ("free_bytes", "size_bytes", "level"),
    [
        (50 * GIB, 100 * GIB, "ok"),
        (1 * GIB, 10 * GIB, "warning"),
        (40 * GIB, 1000 * GIB, "warning"),
        (GIB // 4, 4 * GIB, "error"),
        (0, 4 * GIB, "error"),
        (0, 0, "error"),
    ],
)
def test_disk(free_bytes: int, size_bytes: int, level: str) -> None:
    """Bytes matter on a small disk, the share on a large one."""
    facts = DiskFacts(path=Path("/d"), free_bytes=free_bytes, size_bytes=size_bytes)
    assert check_disk(facts, LIMITS).level == level


def test_packages_and_python() -> None:
    """What is not as it is pinned is named with what was wanted."""
    wrong = PackageFacts(name="celery", wanted="==5.6.3", installed="5.7.0", fits=False)
    missing = PackageFacts(name="flower", wanted="==2.2.0", installed=None, fits=False)
    found = check_packages([wrong, missing])
    assert found.level == "error"
    assert "celery 5.7.0 (wanted: ==5.6.3); flower is missing" in found.detail
    assert check_python((3, 10, 1), ">=3.11", fits=False).level == "error"


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({}, "ok"),
        ({"trouble": "not JSON"}, "error"),
        ({"pid": 1, "is_alive": False}, "warning"),
        ({"pid": 1, "is_alive": True}, "ok"),
        ({"pid": 1, "is_alive": True, "missing": ("beat",)}, "error"),
        ({"pid": 1, "is_alive": True, "restarts": {"beat": 9}}, "warning"),
    ],
)
def test_crew(facts: dict[str, Any], level: str) -> None:
    """A record that is stale, unreadable, or tells of restless processes is not well."""
    assert check_crew(CrewFacts(path=Path("/d/run/crew.json"), **facts), LIMITS, up="nightcrew up").level == level


@pytest.mark.parametrize(
    ("silence", "level"), [(None, "error"), (timedelta(seconds=31), "error"), (timedelta(seconds=5), "ok")]
)
def test_beat(silence: timedelta | None, level: str) -> None:
    """Beat must give a sign of life each half a minute."""
    assert check_beat(silence, LIMITS, up="nightcrew up").level == level


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, ("ok", "ok", "ok")),
        ({"workers": 0}, ("error", "ok", "ok")),
        ({"length": 3, "oldest_age": timedelta(minutes=6)}, ("ok", "warning", "ok")),
        ({"length": 3, "oldest_age": timedelta(hours=1)}, ("ok", "error", "ok")),
        ({"unacked": 1001}, ("ok", "ok", "warning")),
        ({"unacked": 1, "oldest_unacked_age": timedelta(hours=1)}, ("ok", "ok", "warning")),
    ],
)
def test_queues(facts: dict[str, Any], found: tuple[str, str, str]) -> None:
    """Workers, what waits and what is held are judged apart."""
    queues = [queue(), queue(**facts)]
    judged = check_workers(queues, up="nightcrew up"), check_queue_age(queues, LIMITS), check_unacked(queues, LIMITS)
    assert tuple(one.level for one in judged) == found


def test_what_waits_to_be_taken_in() -> None:
    """Intents, dead letters and partitions have their limits."""
    assert check_intents(timedelta(minutes=4), LIMITS).level == "error"
    assert check_intents(timedelta(minutes=1), LIMITS).level == "ok"
    assert check_dead_letters(1).level == "warning"
    assert check_partitions(1, 4, up="nightcrew up").level == "warning"
    assert check_partitions(None, 4, up="nightcrew up").level == "ok"


@pytest.mark.parametrize(("age_s", "level"), [(0.0, "ok"), (60.0, "ok"), (200.0, "warning"), (3600.0, "error")])
def test_usage_lag(age_s: float, level: str) -> None:
    """The oldest use that is not counted decides."""
    backlog = Backlog(partition=0, entries=1 if age_s else 0, age_s=age_s, log_bytes=100)
    assert check_usage_lag([backlog], LIMITS).level == level


def test_incidents_show_the_newest() -> None:
    """The newest incident is told, with its count and its own fix."""
    incidents = [(NOW, 0, Incident(kind="log_over_cap", detail="too large"))] * 2
    found = check_usage_incidents(incidents, LIMITS)
    assert (found.level, "LOG_CAP_BYTES" in found.fix) == ("warning", True)
    assert found.detail == "2 in 24 h; 2026-03-01 12:00:00Z, partition 0: too large"


@pytest.mark.parametrize(
    ("verdict", "level", "fix"),
    [
        ("overdue", "error", "nightcrew schedule run-now nightly"),
        ("broken", "error", "nightcrew schedule history nightly"),
        ("overrunning", "warning", "nightcrew jobs show 7"),
    ],
)
def test_an_entry_that_is_not_well_is_named(verdict: EntryVerdict, level: str, fix: str) -> None:
    """What is wrong with it is told, and which command helps."""
    fine = slot(entry="drain", paused_until=NOW)
    found = check_timetable([fine, slot(entry="nightly", job_id="7", verdict=verdict, reasons=("it is so",))])
    assert (found.level, found.detail, found.fix) == (level, f"nightly {verdict}: it is so", fix)
    assert check_timetable([fine]).detail == "1 entries, none overdue, 1 paused"


def test_the_gravest_entry_decides() -> None:
    """One that is overdue comes before one that takes too long, and both are told."""
    found = check_timetable([slot(entry="slow", verdict="overrunning"), slot(entry="nightly", verdict="overdue")])
    assert (found.level, found.fix) == ("error", "nightcrew schedule run-now nightly")
    assert "slow overrunning" in found.detail


def slot(**changes: Any) -> SlotFacts:
    facts: dict[str, Any] = {"kind": "ledger.canary", "slot_at": None, "job_id": None, "state": None}
    return SlotFacts(**{**facts, "next_at": NOW, "is_overdue": False, **changes})
