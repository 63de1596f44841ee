"""What is always true of the ledger's tables.

Not claimed, because it is not always so: that a child finds its parent (an operator may try a child again whose parent
was forgotten), that a watched run has its pings (sent ones are forgotten first), that a run has all its events (one
that is older than the events lacks the first), and any order of two instants (two machines may have written them).
"""

# ruff: noqa: S608  the queries are put together from what stands here alone

from __future__ import annotations

from typing import Final

from tasks.invariants import Damage, Invariant, nothing_later_than_capture
from tasks.ledger.events import Event
from tasks.ledger.states import OUTCOMES, State

_RUNS: Final = "SELECT count(*) FROM job_runs"


def _names(values: object) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))  # type: ignore[call-overload]


def _one(condition: str) -> str:
    """Name one run, for damage."""
    return f"id = (SELECT min(id) FROM job_runs WHERE {condition})"


def _there_is(condition: str) -> str:
    return f"SELECT 1 FROM job_runs WHERE {condition} LIMIT 1"


def _harm(name: str, change: str, condition: str = "1 = 1") -> Damage:
    """Change one run for which something is true."""
    return Damage(
        name=name,
        statements=(f"UPDATE job_runs SET {change} WHERE {_one(condition)}",),
        possible=_there_is(condition),
    )


def _of_runs(name: str, says: str, impossible: str, told: str, *damages: Damage) -> Invariant:
    """Make one about each run by itself."""
    return Invariant(
        name=f"ledger.{name}",
        says=says,
        tables=("job_runs",),
        counted=_RUNS,
        violations=f"SELECT 'run ' || id || ', ' || state || ': ' || {told} FROM job_runs WHERE {impossible}",
        damages=damages,
    )


_ENDED: Final = f"state IN ({_names(OUTCOMES)})"
_RUNNING: Final = f"state = '{State.RUNNING}'"
_QUEUED: Final = f"state = '{State.QUEUED}'"
_SUCCEEDED: Final = f"state = '{State.SUCCEEDED}'"
_MISSED: Final = f"state = '{State.MISSED}'"

_STATES: Final = _of_runs(
    "ended-runs-have-ended",
    "every run is in a state that there is, and it has an end exactly if that state is an outcome",
    f"state NOT IN ({_names(State)}) OR (finished_at IS NOT NULL) <> ({_ENDED})",
    "CASE WHEN finished_at IS NULL THEN 'it has no end' ELSE 'it has an end' END",
    _harm("state-unknown", "state = 'lost'"),
    _harm("end-without-outcome", "finished_at = updated_at", f"NOT {_ENDED}"),
    _harm("outcome-without-end", "finished_at = NULL", _ENDED),
    _harm("back-to-the-queue", f"state = '{State.QUEUED}'", _ENDED),
)

_HELD: Final = _of_runs(
    "only-running-runs-are-held",
    "a run has a lease exactly if it is running, and a running one has a worker, a heartbeat and an attempt",
    f"(lease_until IS NOT NULL) <> ({_RUNNING}) OR ({_RUNNING} AND "
    "(worker IS NULL OR heartbeat_at IS NULL OR started_at IS NULL OR attempt < 1))",
    "'worker ' || coalesce(worker, 'unknown') || ', attempt ' || attempt "
    "|| CASE WHEN lease_until IS NULL THEN ', no lease' ELSE ', a lease' END",
    _harm("lease-lost", "lease_until = NULL", _RUNNING),
    _harm("lease-left-behind", "lease_until = updated_at", f"NOT {_RUNNING}"),
    _harm("worker-lost", "worker = NULL", _RUNNING),
    _harm("runs-by-itself", f"state = '{State.RUNNING}'", _QUEUED),
)

_ATTEMPTS: Final = _of_runs(
    "attempts-within-limits",
    "no run has had more attempts than it may, nor more than claims, nor more claims than changes; "
    "one that was never claimed knows no worker, no limit and no beginning",
    "attempt < 0 OR attempt > fence OR fence >= revision OR attempt > coalesce(max_attempts, 0) "
    "OR (fence = 0) <> (started_at IS NULL) OR (fence = 0) <> (worker IS NULL) "
    "OR (fence = 0) <> (max_attempts IS NULL)",
    "'attempt ' || attempt || ' of ' || coalesce(max_attempts, 0) || ', claim ' || fence || ', change ' || revision",
    _harm("attempt-beyond-the-limit", "attempt = max_attempts + 1, fence = fence + max_attempts", "max_attempts > 0"),
    _harm("fence-set-back", "fence = 0", "fence > 0"),
    _harm("revision-set-back", "revision = fence"),
    _harm("start-forgotten", "started_at = NULL", "started_at IS NOT NULL"),
)

_ENDINGS: Final = _of_runs(
    "outcomes-say-why",
    "a run that succeeded has no error and was claimed, every other outcome says why, and what was missed never began",
    f"({_SUCCEEDED} AND (error IS NOT NULL OR attempt < 1)) "
    f"OR ({_ENDED} AND NOT {_SUCCEEDED} AND error IS NULL) OR ({_MISSED} AND first_started_at IS NOT NULL)",
    "coalesce(substr(error, 1, 100), 'no reason') || ', attempt ' || attempt",
    _harm("success-with-error", "error = 'disk is full'", _SUCCEEDED),
    _harm("reason-lost", "error = NULL", f"{_ENDED} AND NOT {_SUCCEEDED}"),
    _harm("failure-passes-for-success", f"state = '{State.SUCCEEDED}'", f"{_ENDED} AND error IS NOT NULL"),
    _harm("missed-after-it-began", f"state = '{State.MISSED}'", f"{_SUCCEEDED} AND first_started_at IS NOT NULL"),
)

_PROGRESS: Final = _of_runs(
    "progress-is-a-share",
    "how far a run is lies within 0 and 1",
    "progress < 0 OR progress > 1",
    "progress",
    _harm("more-than-all", "progress = 1.5"),
)

_CALLED_OFF: Final = _of_runs(
    "requests-to-stop-are-whole",
    "a request to stop has an instant and a reason or is none, and no queued run has one",
    f"(cancel_requested_at IS NULL) <> (cancel_reason IS NULL) OR ({_QUEUED} AND cancel_requested_at IS NOT NULL)",
    "coalesce(cancel_reason, 'no reason')",
    _harm("request-without-reason", "cancel_requested_at = updated_at, cancel_reason = NULL"),
    _harm("queued-and-called-off", "cancel_requested_at = updated_at, cancel_reason = 'enough'", _QUEUED),
)

_SLOTS: Final = Invariant(
    name="ledger.one-run-per-slot",
    says="no slot of the timetable has two runs, and a slot belongs to an entry",
    tables=("job_runs",),
    counted="SELECT count(*) FROM job_runs WHERE slot_at IS NOT NULL",
    violations="""
        SELECT 'a slot of ' || coalesce(entry, 'no entry') || ' has ' || count(*) || ' runs, one of them ' || min(id)
        FROM job_runs WHERE slot_at IS NOT NULL GROUP BY entry, slot_at HAVING count(*) > 1 OR entry IS NULL
    """,
    damages=(
        Damage(
            name="slot-fired-twice",
            statements=(
                (
                    "UPDATE job_runs SET entry = (SELECT entry FROM job_runs WHERE "
                    f"{_one('slot_at IS NOT NULL')}), slot_at = (SELECT slot_at FROM job_runs "
                    f"WHERE {_one('slot_at IS NOT NULL')}) "
                    "WHERE id = (SELECT max(id) FROM job_runs WHERE slot_at IS NOT NULL)"
                ),
            ),
            possible="SELECT 1 FROM (SELECT count(*) AS slots FROM job_runs WHERE slot_at IS NOT NULL) AS found "
            "WHERE slots > 1",
        ),
        _harm("entry-forgotten", "entry = NULL", "slot_at IS NOT NULL"),
    ),
)

_TIMELINES: Final = Invariant(
    name="ledger.timelines-end-where-runs-stand",
    says="the events of a run have no gap, and the last one is of its revision, its state and its attempt",
    tables=("job_runs", "run_events"),
    counted="SELECT count(*) FROM run_events",
    violations=f"""
        SELECT 'run ' || runs.id || ' is ' || runs.state || ' at change ' || runs.revision || ', and its ' || lines.seen
            || ' events go from ' || lines.first_one || ' to ' || lines.last_one
        FROM (
            SELECT run_id, count(*) AS seen, min(revision) AS first_one, max(revision) AS last_one
            FROM run_events GROUP BY run_id
        ) AS lines
        JOIN job_runs AS runs ON runs.id = lines.run_id
        LEFT JOIN run_events AS newest ON newest.run_id = runs.id AND newest.revision = runs.revision
        WHERE lines.last_one <> runs.revision OR lines.first_one < 1
            OR lines.seen <> lines.last_one - lines.first_one + 1
            OR newest.run_id IS NULL OR newest.state <> runs.state OR newest.attempt <> runs.attempt
        UNION ALL
        SELECT 'run ' || run_id || ' has the event ' || event || ' at change ' || revision FROM run_events
        WHERE event NOT IN ({_names(Event)})
    """,
    damages=(
        Damage(
            name="last-event-lost",
            statements=(
                (
                    "DELETE FROM run_events WHERE (run_id, revision) IN "
                    "(SELECT run_id, max(revision) FROM run_events GROUP BY run_id HAVING count(*) > 1)"
                ),
            ),
            possible="SELECT 1 FROM run_events GROUP BY run_id HAVING count(*) > 1 LIMIT 1",
        ),
        Damage(
            name="event-in-between-lost",
            statements=(
                (
                    "DELETE FROM run_events WHERE (run_id, revision) IN "
                    "(SELECT run_id, max(revision) - 1 FROM run_events GROUP BY run_id HAVING count(*) > 2)"
                ),
            ),
            possible="SELECT 1 FROM run_events GROUP BY run_id HAVING count(*) > 2 LIMIT 1",
        ),
        Damage(
            name="run-of-an-earlier-moment",
            statements=("UPDATE job_runs SET revision = revision + 1 WHERE id = (SELECT min(run_id) FROM run_events)",),
            possible="SELECT 1 FROM run_events LIMIT 1",
        ),
        Damage(
            name="state-without-event",
            statements=(
                (
                    f"UPDATE job_runs SET state = CASE WHEN {_SUCCEEDED} THEN '{State.FAILED}' "
                    f"ELSE '{State.SUCCEEDED}' "
                    "END WHERE id = (SELECT min(run_id) FROM run_events)"
                ),
            ),
            possible="SELECT 1 FROM run_events LIMIT 1",
        ),
    ),
)

_RESOURCES: Final = Invariant(
    name="ledger.resources-held-by-running-runs",
    says="what is held is held by the present claim of a running run, and what is free says nothing of a holder",
    tables=("resource_leases", "job_runs"),
    counted="SELECT count(*) FROM resource_leases",
    violations=f"""
        SELECT 'resource ' || resource || ' is held by run ' || coalesce(run_id, 'nobody')
            || ', claim ' || coalesce(CAST(run_fence AS TEXT), 'unknown')
        FROM resource_leases
        WHERE (run_id IS NULL AND (run_fence IS NOT NULL OR worker IS NOT NULL OR taken_at IS NOT NULL
                OR lease_until IS NOT NULL))
            OR (run_id IS NOT NULL AND (run_fence IS NULL OR worker IS NULL OR taken_at IS NULL OR lease_until IS NULL
                OR fence < 1 OR NOT EXISTS (
                    SELECT 1 FROM job_runs
                    WHERE id = resource_leases.run_id AND {_RUNNING} AND job_runs.fence = resource_leases.run_fence
                )))
    """,
    damages=(
        Damage(
            name="holder-of-an-earlier-claim",
            statements=("UPDATE resource_leases SET run_fence = run_fence - 1 WHERE run_id IS NOT NULL",),
            possible="SELECT 1 FROM resource_leases WHERE run_id IS NOT NULL LIMIT 1",
        ),
        Damage(
            name="holder-unknown",
            statements=("UPDATE resource_leases SET run_id = 'nobody'",),
            possible="SELECT 1 FROM resource_leases LIMIT 1",
        ),
        Damage(
            name="worker-left-behind",
            statements=("UPDATE resource_leases SET run_id = NULL, worker = 'ledger@lost'",),
            possible="SELECT 1 FROM resource_leases LIMIT 1",
        ),
    ),
)

_PINGS: Final = Invariant(
    name="ledger.pings-tell-of-watched-runs",
    says="a ping tells of a run of its entry that somebody watches, as long as that run is there",
    tables=("pings", "job_runs"),
    counted="SELECT count(*) FROM pings",
    violations="""
        SELECT 'ping ' || pings.id || ' of ' || pings.entry || ' tells of run ' || job_runs.id || ' of '
            || coalesce(job_runs.entry, 'no entry')
        FROM pings JOIN job_runs ON job_runs.id = pings.run_id
        WHERE job_runs.entry IS NULL OR job_runs.entry <> pings.entry OR NOT job_runs.watched
        UNION ALL
        SELECT 'ping ' || id || ' was tried ' || tries || ' times' FROM pings WHERE tries < 0
    """,
    damages=(
        Damage(
            name="ping-of-another-entry",
            statements=("UPDATE pings SET entry = 'nobody-walks-this'",),
            possible="SELECT 1 FROM pings JOIN job_runs ON job_runs.id = pings.run_id LIMIT 1",
        ),
        Damage(
            name="tries-below-none",
            statements=("UPDATE pings SET tries = -1",),
            possible="SELECT 1 FROM pings LIMIT 1",
        ),
    ),
)

_PAUSES: Final = Invariant(
    name="ledger.pauses-are-whole",
    says="a pause has a beginning, an end, a reason and a name, or is none",
    tables=("schedule_entries",),
    counted="SELECT count(*) FROM schedule_entries",
    violations="""
        SELECT 'the pause of ' || name || ' lacks something' FROM schedule_entries
        WHERE (paused_at IS NULL) <> (paused_until IS NULL) OR (paused_at IS NULL) <> (pause_reason IS NULL)
            OR (paused_at IS NULL) <> (paused_by IS NULL)
    """,
    damages=(
        Damage(
            name="pause-without-end",
            statements=(
                (
                    "UPDATE schedule_entries SET paused_at = walked_until, paused_until = NULL, pause_reason = 'x', "
                    "paused_by = 'x'"
                ),
            ),
            possible="SELECT 1 FROM schedule_entries LIMIT 1",
        ),
    ),
)

INVARIANTS: Final = (
    _STATES,
    _HELD,
    _ATTEMPTS,
    _ENDINGS,
    _PROGRESS,
    _CALLED_OFF,
    _SLOTS,
    _TIMELINES,
    _RESOURCES,
    _PINGS,
    _PAUSES,
    # Not `enqueued_at`, nor when a letter came: an app may have said so by its own clock. Not `published_at`: a message
    # that is to come later has an instant ahead.
    nothing_later_than_capture(
        "ledger",
        {
            "job_runs": [
                "queued_at",
                "updated_at",
                "started_at",
                "first_started_at",
                "heartbeat_at",
                "finished_at",
                "cancel_requested_at",
            ],
            "run_events": ["at"],
            "resource_leases": ["taken_at"],
            "schedule_entries": ["walked_until", "paused_at"],
            "pings": ["created_at", "sent_at"],
            "dead_letters": ["retried_at"],
        },
    ),
)
