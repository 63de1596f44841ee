"""The client for users' tests."""

from __future__ import annotations

import pytest

from nightcrew.errors import (
    ClosedError,
    InvalidMessageError,
    InvalidUsageError,
    JobFailedError,
    JobTimeoutError,
    QueueFullError,
)
from nightcrew.messages import DrainUsage, RunCanary
from nightcrew.testing import RecordingNightcrew


def test_counts_are_recorded() -> None:
    """By key, context and outcome."""
    crew = RecordingNightcrew()
    crew.usage.increment("k", context="fr", accepted=True)
    crew.usage.increment("k", amount=2)
    crew.usage.increment_many(["k", "l", "k"])
    assert crew.usage.counts() == {("k", "fr", True): 1, ("k", "", None): 4, ("l", "", None): 1}
    assert crew.usage.total("k") == 5


def test_it_refuses_what_the_real_one_refuses() -> None:
    """A test with bad input fails as the app would."""
    crew = RecordingNightcrew()
    with pytest.raises(InvalidUsageError):
        crew.usage.increment("")
    with pytest.raises(InvalidUsageError):
        crew.usage.increment_many({"k": 0})
    with pytest.raises(InvalidMessageError):
        crew.enqueue(RunCanary(), job_id="not a uuid")
    with pytest.raises(InvalidMessageError):
        crew.enqueue(RunCanary(), dedup_key="")


def test_jobs_are_recorded_and_finished_by_the_test() -> None:
    """The handle gives what the test said."""
    with RecordingNightcrew(correlation_id=lambda: "request-7") as crew:
        job = crew.enqueue(RunCanary(note="a"), dedup_key="d")
        crew.enqueue(RunCanary(note="a"), job_id=job.id)
        other, _ = crew.enqueue_many([RunCanary(note="b"), RunCanary(note="c")])
        assert crew.enqueued("ledger.canary") == [RunCanary(note="a"), RunCanary(note="b"), RunCanary(note="c")]
        assert crew.jobs[0].correlation_id == "request-7"
        assert job.state() == "queued"
        with pytest.raises(JobTimeoutError):
            job.result(timeout_s=0)
        crew.finish(job.id, result={"ok": True})
        assert job.result(timeout_s=0) == {"ok": True}
        crew.finish(other.id, state="dead", error="no luck")
        with pytest.raises(JobFailedError, match="no luck"):
            other.result(timeout_s=0)
        assert crew.job(job.id).kind == "ledger.canary"
    with pytest.raises(ClosedError):
        crew.enqueue(RunCanary())


def test_caps_refuse_as_those_of_a_crew_do() -> None:
    """By kind, all or none, and not the same id twice; what has ended makes room."""
    crew = RecordingNightcrew(caps={"*": 1, "ledger.canary": 2})
    first, second = crew.enqueue_many([RunCanary(), RunCanary()])
    crew.enqueue(RunCanary(), job_id=second.id)
    crew.enqueue(DrainUsage(partition=0))
    with pytest.raises(QueueFullError, match=r"usage\.drain is full: 1 jobs wait and at most 1 may") as caught:
        crew.enqueue_many([DrainUsage(partition=1), RunCanary()])
    assert (caught.value.waiting, caught.value.cap, caught.value.accepted, len(crew.jobs)) == (1, 1, "no", 3)
    crew.finish(first.id)
    crew.enqueue(RunCanary())
    with pytest.raises(QueueFullError):
        crew.enqueue(RunCanary())
    with pytest.raises(InvalidMessageError, match="jobs at once"):
        crew.enqueue_many([RunCanary()] * 10_001)
