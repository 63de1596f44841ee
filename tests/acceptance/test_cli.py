"""The way of a person through the command, on a crew that runs: exit codes and the keys of the JSON objects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nightcrew.messages import RunCanary
from tests.acceptance.commands import ask, run_nightcrew
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import RunningCrew

_MEMBERS = {"broker", "worker-usage", "worker-ledger", "worker-analysis", "beat"}


def test_status_shows_the_crew_at_a_glance(crew: RunningCrew) -> None:
    """A fresh crew is healthy, and the address of its broker is there for apps."""
    status = ask("status", data_dir=crew.directory)
    assert {"healthy", "broker", "crew", "queues", "slots", "usage", "ledger", "flower"} <= status.keys()
    assert (status["healthy"], status["reasons"]) == (True, [])
    assert status["broker"]["url"].startswith("unix://")
    assert status["broker"]["persistent"] is True
    assert status["crew"]["children"].keys() == _MEMBERS
    assert {queue["name"]: queue["workers"] for queue in status["queues"]} == {
        "nightcrew.usage": 1,
        "nightcrew.ledger": 1,
        "nightcrew.analysis": 1,
    }


def test_doctor_finds_nothing_wrong(crew: RunningCrew) -> None:
    """Some twenty checks; each finding says what it looked at."""
    report = ask("doctor", data_dir=crew.directory)
    assert len(report["findings"]) >= 20
    assert all(finding.keys() == {"check", "level", "detail", "fix"} for finding in report["findings"])
    assert {finding["level"] for finding in report["findings"]} == {"ok"}


def test_a_job_goes_all_the_way(crew: RunningCrew) -> None:
    """Enqueued by its kind, waited for, found in the ledger under its id."""
    job = ask("enqueue", "ledger.canary", "--field", "note=hello", "--wait", "30", data_dir=crew.directory)
    assert (job["kind"], job["state"], job["result"]) == ("ledger.canary", "succeeded", {"note": "hello"})
    listed = ask("jobs", "list", "--kind", "ledger.canary", data_dir=crew.directory)["jobs"]
    assert [(one["id"], one["state"], one["attempt"]) for one in listed] == [(job["id"], "succeeded", 1)]
    assert ask("jobs", "show", job["id"], data_dir=crew.directory)["job"] == listed[0]


def test_what_succeeded_cannot_be_retried(crew: RunningCrew) -> None:
    """The command says why, in one line, and ends with 1."""
    job = crew.app.enqueue(RunCanary())
    assert job.result(timeout_s=30) == {"note": ""}
    answer = run_nightcrew("jobs", "retry", job.id, data_dir=crew.directory)
    assert answer.code == 1
    assert answer.errors.startswith(f"error: run {job.id} cannot be retried")


def test_uses_are_counted_ranked_and_kept_by_hour(crew: RunningCrew) -> None:
    """The snapshot waits for what is logged; a reset leaves the history alone."""
    crew.app.usage.increment_many({"mail.greeting": 3, "mail.footer": 1}, context="fr", accepted=True)
    crew.app.usage.increment("mail.greeting", context="de", accepted=False)
    crew.app.usage.flush()
    snapshot = ask("usage", "snapshot", "--wait", "60", data_dir=crew.directory)
    greeting = {"key": "mail.greeting", "total": 3, "accepted": 3, "rejected": 0}
    assert {"context": "fr", **greeting} in snapshot["counts"]
    assert datetime.fromisoformat(snapshot["as_of"]).tzinfo == UTC
    top = ask("usage", "top", "-n", "1", data_dir=crew.directory)["top"]
    assert [(row["key"], row["total"]) for row in top] == [("mail.greeting", 4)]
    ask("usage", "reset", "mail.greeting", data_dir=crew.directory)
    ask("usage", "snapshot", "--wait", "60", data_dir=crew.directory)
    assert ask("usage", "count", "mail.greeting", data_dir=crew.directory)["total"] == 0
    hours = ask("usage", "history", "mail.greeting", "--context", "fr", data_dir=crew.directory)["hours"]
    assert sum(hour["total"] for hour in hours) == 3


def test_an_entry_of_the_timetable_runs_now(crew: RunningCrew) -> None:
    """Its job is in the ledger, and the timetable shows how it went."""
    entries = ask("schedule", "list", data_dir=crew.directory)["entries"]
    assert {entry["entry"] for entry in entries} == {"usage-drain", "ledger-reconcile", "ttl-collect"}
    job = ask("schedule", "run-now", "ledger-reconcile", data_dir=crew.directory)
    wait_until(
        lambda: crew.app.job(job["id"]).state() == "succeeded", timeout_s=60, what="the reconcile", interval_s=0.1
    )
    slots = ask("schedule", "next", "-n", "3", data_dir=crew.directory)["slots"]
    assert len(slots) == 3
    assert slots == sorted(slots, key=lambda slot: str(slot["slot_at"]))


def test_settings_are_shown_with_their_origin(crew: RunningCrew) -> None:
    """And a wrong one ends with 3 and says what was meant."""
    shown = ask("config", "show", data_dir=crew.directory)["settings"]
    assert shown["data_dir"] == {"value": str(crew.directory), "origin": "--data-dir"}
    answer = run_nightcrew("status", data_dir=crew.directory, env={"NIGHTCREW_USAGE__PARTITION": "2"})
    assert answer.code == 3
    assert "did you mean NIGHTCREW_USAGE__PARTITIONS?" in answer.errors


def test_mistakes_have_exit_codes_of_their_own(crew: RunningCrew, tmp_path: Path) -> None:
    """2 for wrong arguments, 4 where no crew runs; one line says so, another what to do."""
    unknown = run_nightcrew("enqueue", "ledger.canari", data_dir=crew.directory)
    assert unknown.code == 2
    assert "ledger.canary" in unknown.errors
    nobody = run_nightcrew("enqueue", "ledger.canary", data_dir=tmp_path)
    assert nobody.code == 4
    assert f"nightcrew up --data-dir {tmp_path}" in nobody.errors
