"""The client for users' tests."""

from __future__ import annotations

import pytest

from nightcrew.errors import ClosedError, InvalidMessageError, InvalidUsageError, JobFailedError, JobTimeoutError
from nightcrew.messages import RunCanary
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
