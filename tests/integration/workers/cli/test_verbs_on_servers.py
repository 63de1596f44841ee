"""The verbs that look at the crew, on a real broker and a real database, without workers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import redis

from nightcrew import Nightcrew, wire
from nightcrew.messages import RunCanary
from tasks.ledger.dead_letters import letter_of_entry
from tasks.ledger.runs import wanted_run
from tasks.ledger.store import runs, streams
from tasks.ledger.store.queues import depths
from tests.support.databases import opened_engine
from tests.support.redis import running_redis
from workers.cli.context import open_crew

if TYPE_CHECKING:
    from tests.integration.workers.cli.conftest import Command
    from tests.support.redis import RedisServer

JOB_ID = "01931f2e-5f6a-7abc-8def-0123456789ab"


def insert_run(sqlite_url: str, *, job_id: str = JOB_ID) -> None:
    now = datetime.now(UTC)
    wanted = wanted_run(
        job_id=job_id, kind=RunCanary.kind, payload={}, dedup_key=None, correlation_id=None, enqueued_at=now
    )
    with opened_engine(sqlite_url) as engine:
        runs.insert(engine, [wanted], now=now, republish_after=timedelta(minutes=1))


def test_enqueue(nightcrew: Command, redis_server: RedisServer) -> None:
    """The message is on its queue and its intent in the stream; without --wait nobody waits."""
    answer = nightcrew("enqueue", "ledger.canary", "-f", "note=hi", "--dedup-key", "once")
    assert (answer["kind"], answer["state"]) == ("ledger.canary", "unknown")
    client = redis_server.client()
    (waiting,) = depths(client, ["nightcrew.ledger"])
    ((_, intent),) = streams.oldest_entries(client, wire.INTENTS, count=10)
    assert waiting.waiting == 1
    assert (intent[b"id"].decode(), intent[b"dedup_key"]) == (answer["id"], b"once")


def test_enqueue_and_wait(nightcrew: Command, redis_server: RedisServer) -> None:
    """A job that does not end in time, and one that failed, end with 1 and say why."""
    late = nightcrew("enqueue", "ledger.canary", "--wait", "0.1", code=1)
    assert (late["state"], late["error"]) == ("unknown", "did not end within 0.1 s; its state is unknown")
    producer = Nightcrew(redis_server.url)
    job = producer.enqueue(RunCanary())
    redis_server.client().hset(wire.job_mirror(job.id), mapping={"state": "failed", "error": "no luck"})
    from workers.cli.enqueue import _wait  # noqa: PLC0415  an id cannot be chosen on the command line

    assert _wait(job, 5.0)["error"].endswith("no luck")
    producer.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["ledger.canry"], "no kind 'ledger.canry'"),
        (["ledger.canary", "-f", "nte=x"], "it has note"),
        (["usage.drain", "-f", "partition=x"], "whole number"),
    ],
)
def test_wrong_messages(nightcrew: Command, arguments: list[str], error: str) -> None:
    """What cannot be sent ends with 2 and one line."""
    nightcrew.text("enqueue", *arguments, code=2)
    assert error in nightcrew.errors


def test_jobs(nightcrew: Command, sqlite_url: str) -> None:
    """Jobs are listed, filtered, and found by the beginning of their id."""
    insert_run(sqlite_url)
    assert [one["id"] for one in nightcrew("jobs", "list", "--state", "queued")["jobs"]] == [JOB_ID]
    assert nightcrew("jobs", "list", "--kind", "usage.drain")["jobs"] == []
    assert nightcrew("jobs", "show", JOB_ID[:8])["job"]["state"] == "queued"
    assert JOB_ID in nightcrew.text("jobs", "list")
    assert "queued" in nightcrew.text("jobs", "show", JOB_ID)
    nightcrew("jobs", "retry", JOB_ID, code=1)
    assert "cannot be retried" in nightcrew.errors
    nightcrew("jobs", "show", "ffff", code=1)
    nightcrew("jobs", "list", "--state", "happy", code=2)


def test_dead_letters(nightcrew: Command, redis_server: RedisServer) -> None:
    """A letter is listed once it has arrived, shown whole, and one that can be read is tried again."""
    fields = {"v": "1", "id": JOB_ID, "kind": "ledger.canary", "payload": "{}", "enqueued_at": str(time.time())}
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    letter = letter_of_entry(source=wire.INTENTS, fields=raw, reason="test", received_at=datetime.now(UTC))
    streams.append_dead_letter(redis_server.client(), letter)
    (listed,) = nightcrew("jobs", "dead")["dead_letters"]
    number = str(listed["id"])
    assert nightcrew("jobs", "dead", "--show", number)["dead_letter"]["reason"] == "test"
    assert nightcrew("jobs", "dead", "--retry", number)["dead_letter"]["retried_at"]
    assert nightcrew("jobs", "dead")["dead_letters"] == []
    assert len(nightcrew("jobs", "dead", "--all")["dead_letters"]) == 1
    assert streams.entry_count(redis_server.client(), wire.INTENTS) == 1
    nightcrew("jobs", "dead", "--show", "99", code=1)


def test_status_of_a_crew_without_workers(nightcrew: Command, sqlite_url: str) -> None:
    """The broker answers, but there is no beat and nobody works: degraded, with reasons and their fixes."""
    insert_run(sqlite_url)
    answer = nightcrew("status", code=5)
    assert answer["broker"]["reachable"]
    assert answer["broker"]["persistent"]
    assert answer["healthy"] is False
    assert {reason["check"] for reason in answer["reasons"]} == {"beat", "workers"}
    assert {queue["name"]: queue["workers"] for queue in answer["queues"]} == {
        "nightcrew.ledger": 0,
        "nightcrew.analysis": 0,
        "nightcrew.usage": 0,
    }
    assert answer["ledger"]["runs"]["queued"] == 1
    assert (answer["crew"], answer["flower"]) == (None, None)
    assert "needs attention" in nightcrew.text("status", code=5)


def test_passwords_are_masked(nightcrew: Command) -> None:
    """Neither status nor doctor shows the password of the broker."""
    with running_redis(tcp=True, options={"requirepass": "canary"}) as server:
        url = server.url.replace("redis://", "redis://:canary@")
        (nightcrew.data_dir / "nightcrew.toml").write_text(f'[broker]\nurl = "{url}"\n', encoding="utf-8")
        for verb in ("status", "doctor"):
            shown = nightcrew.text(verb, "--json", code=5)
            assert ":***@" in shown
            assert "canary" not in shown.replace("ledger.canary", "")


def test_nobody_is_there(nobody: Command) -> None:
    """Without a crew everything that needs one ends with 4, the timetable is shown, and nothing is made."""
    for arguments in (["enqueue", "ledger.canary"], ["jobs", "list"], ["schedule", "run-now", "usage-drain"]):
        nobody.text(*arguments, code=4)
        assert "nightcrew up" in nobody.errors
    answer = nobody("status", code=4)
    assert (answer["healthy"], answer["broker"]["reachable"], answer["usage"]) == (False, False, None)
    report = nobody("doctor", code=4)
    assert {"broker", "database", "disk"} <= {finding["check"] for finding in report["findings"]}
    assert all(finding["fix"] for finding in report["findings"] if finding["level"] != "ok")
    assert len(nobody("schedule", "list")["entries"]) >= 2
    assert list(nobody.data_dir.iterdir()) == []


@pytest.mark.parametrize("kind", ["directory", "noise", "unknown name"])
def test_unreadable_settings(nobody: Command, kind: str) -> None:
    """Settings that cannot be read are a finding with its fix, not the end of the examination."""
    path = nobody.data_dir / "nightcrew.toml"
    if kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe" if kind == "noise" else b"[usage]\npartitons = 2\n")
    report = nobody("doctor", code=3)
    found = {finding["check"]: finding for finding in report["findings"]}
    assert found["settings"]["level"] == "error"
    assert str(path) in found["settings"]["detail"]
    assert "config validate" in found["settings"]["fix"]
    assert found["packages"]["level"] == "ok"
    assert "settings" in nobody.text("doctor", code=3)


def test_awake(nobody: Command) -> None:
    """For a verb that needs nobody else the broker alone is started, and it is gone afterwards."""
    (nobody.data_dir / "broker").mkdir(mode=0o700)
    with open_crew(nobody.data_dir) as crew:
        with crew.awake():
            server = crew.runtime.redis.info()
            assert crew.has_database
            url = crew.broker_url
        assert crew.record() is None
    assert server["aof_enabled"] == 1
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()
