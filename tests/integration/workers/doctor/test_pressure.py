"""What waits too long, and what is too much, on a real broker without any worker."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nightcrew import Nightcrew, wire
from nightcrew._publisher import Publisher
from nightcrew._uuid7 import uuid7
from nightcrew.messages import RunCanary
from tasks.ledger.reconciliation import take_in_intents
from tasks.ledger.store.queues import unacked_key
from workers.cli.verbs import run
from workers.doctor import Finding, Patient, examine_crew

if TYPE_CHECKING:
    import pytest

QUEUE = RunCanary.queue


def findings(patient: Patient, *, later: timedelta = timedelta()) -> dict[str, Finding]:
    """Examine the crew as it will look after some time in which nothing happens."""
    runtime = replace(patient.runtime, clock=lambda: datetime.now(UTC) + later)
    return {finding.check: finding for finding in examine_crew(replace(patient, runtime=runtime)).findings}


def test_a_queue_without_workers_grows_old(patient: Patient) -> None:
    """Its age is that of the oldest message since the enqueue: well, then a warning, then an error."""
    with Nightcrew(patient.broker_url) as app:
        app.enqueue_many([RunCanary()] * 3)
    found = [findings(patient, later=timedelta(minutes=minutes))["queue-age"] for minutes in (0, 6, 60)]
    assert [one.level for one in found] == ["ok", "warning", "error"]
    assert found[1].detail.startswith("the oldest of 3 messages of nightcrew.ledger waits for 36")


def test_messages_that_the_last_worker_took_wait_as_well(patient: Patient) -> None:
    """On a queue that nobody works on they are as old as those that nobody took."""
    redis = patient.runtime.redis
    with Nightcrew(patient.broker_url) as app:
        app.enqueue(RunCanary())
    stored: Any = redis.rpop(QUEUE)
    redis.hset(unacked_key(QUEUE), "tag", json.dumps([json.loads(stored), "", QUEUE]))
    redis.zadd(f"{unacked_key(QUEUE)}:index", {"tag": datetime.now(UTC).timestamp()})
    assert findings(patient)["queue-age"].level == "ok"
    late = findings(patient, later=timedelta(minutes=10))["queue-age"]
    assert (late.level, late.detail.partition(" of nightcrew")[0]) == ("warning", "the oldest of 1 messages")


def test_runs_whose_messages_are_lost_grow_old(patient: Patient) -> None:
    """No queue knows of them any more; the ledger does."""
    with Nightcrew(patient.broker_url) as app:
        app.enqueue(RunCanary())
    take_in_intents(patient.runtime)
    patient.runtime.redis.delete(QUEUE)
    found = findings(patient, later=timedelta(minutes=7))
    assert (found["queue-age"].level, found["queued-runs"].level) == ("ok", "warning")
    assert "1 queued runs of ledger.canary" in found["queued-runs"].detail


def test_a_cap_that_is_nearly_reached(patient: Patient) -> None:
    """A warning before apps are refused, an error when they are; a cap of 0 is meant so."""
    redis = patient.runtime.redis
    redis.hset(wire.QUEUE_CAPS, mapping={"*": "10", "usage.drain": "0"})
    with Nightcrew(patient.broker_url) as app:
        for jobs, level in ((7, "ok"), (1, "warning"), (2, "error")):
            app.enqueue_many([RunCanary()] * jobs)
            assert findings(patient)["queue-caps"].level == level
    detail = findings(patient)["queue-caps"].detail
    assert detail == "10 jobs of ledger.canary wait, and at most 10 may: apps are refused"


def test_status_says_so(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 5 for a message that waits too long, and shows queues and kinds; asked again, both are older."""
    directory = patient.settings.data_dir
    settings = directory / "nightcrew.toml"
    settings.write_text(f'[broker]\nurl = "{patient.broker_url}"\n', encoding="utf-8")
    settings.chmod(0o600)
    long_ago = datetime.now(UTC) - timedelta(minutes=6)
    publisher = Publisher(patient.broker_url, 5.0)
    publisher.publish(RunCanary(), job_id=str(uuid7()), correlation_id="test", enqueued_at=long_ago)
    publisher.close()
    with Nightcrew(patient.broker_url) as app:
        app.enqueue(RunCanary())
    take_in_intents(patient.runtime)

    def status() -> tuple[dict[str, Any], dict[str, Any], set[str]]:
        assert run(["status", "--json", "--data-dir", str(directory)]) == 5
        document = json.loads(capsys.readouterr().out)
        queue = next(one for one in document["queues"] if one["name"] == QUEUE)
        kind = next(one for one in document["kinds"] if one["kind"] == RunCanary.kind)
        return queue, kind, {reason["check"] for reason in document["reasons"]}

    queue, kind, reasons = status()
    assert "queue-age" in reasons
    assert (queue["length"], queue["workers"], queue["oldest_age_s"] >= 360) == (2, 0, True)
    assert (kind["queued"], kind["counted"], kind["cap"]) == (1, 1, None)
    again, kind_again, _ = status()
    assert again["oldest_age_s"] > queue["oldest_age_s"]
    assert kind_again["oldest_age_s"] > kind["oldest_age_s"]
    run(["status", "--data-dir", str(directory)])
    assert "ledger.canary" in capsys.readouterr().out
