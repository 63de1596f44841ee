"""The doctor sees what is kept too long, dropped too early, or was never heard."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from tasks.ledger.tables import DeadLetter, JobRun, Ping
from tasks.transactions import begin_write
from workers.doctor import Finding, Patient, examine

if TYPE_CHECKING:
    from datetime import datetime

CHECKS = ("pings", "dead-letters-cap", "retention")


def kept(patient: Patient) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(patient).findings if finding.check in CHECKS}


def write(patient: Patient, table: type, **values: Any) -> None:
    with begin_write(patient.runtime.engine) as connection:
        connection.execute(insert(table).values(**values))


def ago(patient: Patient, **duration: float) -> datetime:
    return patient.runtime.clock() - timedelta(**duration)


def test_nothing_is_wrong_with_a_fresh_database(patient: Patient) -> None:
    """All three checks are made, and pass."""
    assert {check: finding.level for check, finding in kept(patient).items()} == dict.fromkeys(CHECKS, "ok")


def test_ping_that_was_given_up_is_an_error_for_a_day(patient: Patient) -> None:
    """Somebody outside may believe that all is well; a ping that got through at last is no news."""
    shared = {"run_id": "run", "signal": "fail", "created_at": ago(patient, days=3), "try_at": ago(patient, days=3)}
    write(patient, Ping, entry="nightly", sent_at=ago(patient, hours=23), error="status 404", **shared)
    write(patient, Ping, entry="weekly", sent_at=ago(patient, hours=25), error="status 500", **shared)
    write(patient, Ping, entry="weekly", sent_at=ago(patient, hours=1), error=None, **shared)
    finding = kept(patient)["pings"]
    assert (finding.level, finding.detail) == ("error", "1 given up in 24 h, the last of nightly: status 404")


def test_full_dead_letters_are_an_error(patient: Patient) -> None:
    """At the cap each new letter costs an old one."""
    runtime = patient.runtime
    full = replace(patient, runtime=replace(runtime, ledger=replace(runtime.ledger, max_dead_letters=1)))
    assert kept(full)["dead-letters-cap"].level == "ok"
    write(patient, DeadLetter, source="s", source_id="1", reason="r", body="{}", received_at=ago(patient, days=1))
    assert kept(full)["dead-letters-cap"].level == "error"


def test_run_that_should_be_gone_is_a_warning(patient: Patient) -> None:
    """A day after its time a row says that nobody deletes any more; what is to stay is no reason."""
    for days, state in ((30, "succeeded"), (32, "failed")):
        _write_run(patient, days, state)
    assert kept(patient)["retention"].level == "ok"
    _write_run(patient, 32, "succeeded")
    assert kept(patient)["retention"].level == "warning"


def _write_run(patient: Patient, days: int, state: str) -> None:
    then = ago(patient, days=days)
    instants = dict.fromkeys(("enqueued_at", "queued_at", "republish_at", "finished_at", "updated_at"), then)
    names = {"id": f"{state}-{days}", "kind": "app.report", "queue": "nightcrew.app", "correlation_id": "test"}
    write(patient, JobRun, payload={}, state=state, **names, **instants)
