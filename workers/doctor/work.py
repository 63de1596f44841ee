"""Checks of the work: beat, queues and their workers, what waits, what was given up, the usage log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from workers.doctor.finding import Finding, error, ok, warning
from workers.doctor.pressure import check_caps, check_queued_runs
from workers.doctor.timetable import check_timetable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from tasks.ledger.operations import LedgerSummary
    from tasks.usage.operations import Backlog
    from tasks.usage.position import Incident
    from workers.doctor.limits import Limits
    from workers.doctor.pressure import KindFacts
    from workers.doctor.timetable import SlotFacts

_MUCH = 10
"""So many times a limit is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """A queue, and who works on it."""

    name: str
    length: int
    """Messages that no worker has taken."""
    oldest_age: timedelta | None
    """Since its enqueueing, of the one that waits the longest; where nobody works, of those that the last worker took
    and left as well. None when nothing waits, or when the message does not say."""
    unacked: int
    """Messages that a worker has taken and not finished."""
    oldest_unacked_age: timedelta | None
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """What lies in the broker."""

    beat_silence: timedelta | None
    """Time since beat's last sign of life; None: there is none."""
    queues: Sequence[QueueFacts]
    oldest_intent_age: timedelta | None
    """Of the jobs that are not in the ledger yet."""
    published_partitions: int | None
    """What apps are told; None before the usage log begins."""
    stuck_bells: Sequence[str]
    """Doorbells whose key has no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """What stands in the database."""

    slots: Sequence[SlotFacts]
    incidents: Sequence[tuple[datetime, int, Incident]]
    """Of the usage log, each with its moment and partition, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedFacts:
    """What only broker and database together can tell."""

    ledger: LedgerSummary
    backlogs: Sequence[Backlog]
    kinds: Sequence[KindFacts]


def check_messages(facts: MessageFacts, limits: Limits, *, partitions: int, up: str, cli: str) -> Iterator[Finding]:
    """Judge what lies in the broker; `up` starts the crew, `cli` speaks to the broker."""
    yield check_beat(facts.beat_silence, limits, up=up)
    yield check_workers(facts.queues, up=up)
    yield check_queue_age(facts.queues, limits)
    yield check_unacked(facts.queues, limits)
    yield check_intents(facts.oldest_intent_age, limits)
    yield check_partitions(facts.published_partitions, partitions, up=up)
    yield check_bells(facts.stuck_bells, cli=cli)


def check_tables(facts: TableFacts, limits: Limits) -> Iterator[Finding]:
    """Judge what stands in the database."""
    yield check_timetable(facts.slots)
    yield check_usage_incidents(facts.incidents, limits)


def check_combined(facts: CombinedFacts, limits: Limits) -> Iterator[Finding]:
    """Judge what only both together can tell."""
    yield check_dead_letters(facts.ledger.open_dead_letters)
    yield check_usage_lag(facts.backlogs, limits)
    yield check_queued_runs(facts.kinds, limits)
    yield check_caps(facts.kinds, limits)


def check_beat(silence: timedelta | None, limits: Limits, *, up: str) -> Finding:
    """Judge beat by its last sign of life; None: there is none."""
    if silence is None:
        return error("beat", "beat gives no sign of life: nothing is started by the clock", fix=up)
    detail = f"last sign of life {silence.total_seconds():.0f} s ago"
    return ok("beat", detail) if silence <= limits.beat_silence else error("beat", detail, fix=up)


def check_workers(queues: Collection[QueueFacts], *, up: str) -> Finding:
    """Judge whether somebody works on each queue."""
    idle = [queue.name for queue in queues if not queue.workers]
    if idle:
        return error("workers", f"nobody works on {', '.join(idle)}", fix=up)
    return ok("workers", ", ".join(f"{queue.name}: {queue.workers}" for queue in queues))


def check_queue_age(queues: Collection[QueueFacts], limits: Limits) -> Finding:
    """Judge how long messages wait."""
    aged = [(queue.oldest_age, queue) for queue in queues if queue.oldest_age is not None]
    if not aged:
        return ok("queue-age", "nothing waits")
    age, queue = max(aged, key=lambda pair: pair[0])
    messages = queue.length if queue.workers else queue.length + queue.unacked
    detail = f"the oldest of {messages} messages of {queue.name} waits for {_seconds(age)}"
    return _by_age("queue-age", age, limits.queue_age, detail, fix="nightcrew jobs list --state queued")


def check_unacked(queues: Collection[QueueFacts], limits: Limits) -> Finding:
    """Judge whether workers hold messages that they do not finish."""
    held = [queue for queue in queues if _holds_too_much(queue, limits)]
    if not held:
        return ok("unacked", f"{sum(queue.unacked for queue in queues)} messages in the hands of workers")
    named = ", ".join(
        f"{queue.name}: {queue.unacked} messages, the oldest taken {_seconds(queue.oldest_unacked_age)} ago"
        for queue in held
    )
    return warning("unacked", f"taken and not finished: {named}", fix="nightcrew jobs list --state running")


def check_intents(oldest_age: timedelta | None, limits: Limits) -> Finding:
    """Judge whether jobs that apps asked for are taken into the ledger."""
    if oldest_age is None:
        return ok("intents", "all taken into the ledger")
    detail = f"the oldest job not yet in the ledger waits for {_seconds(oldest_age)}"
    if oldest_age <= limits.intent_age:
        return ok("intents", detail)
    return error("intents", detail, fix="nightcrew enqueue ledger.reconcile --wait 60")


def check_dead_letters(count: int) -> Finding:
    """Judge whether something could not be read."""
    if not count:
        return ok("dead-letters", "none")
    return warning("dead-letters", f"{count} messages or entries could not be read", fix="nightcrew jobs dead")


def check_usage_lag(backlogs: Sequence[Backlog], limits: Limits) -> Finding:
    """Judge how long uses wait to be counted."""
    oldest = max((timedelta(seconds=one.age_s) for one in backlogs), default=timedelta())
    detail = f"{sum(one.entries for one in backlogs)} log entries are not counted, the oldest for {_seconds(oldest)}"
    if not oldest:
        return ok("usage-lag", "everything logged is counted")
    return _by_age("usage-lag", oldest, limits.log_age, detail, fix="nightcrew enqueue usage.drain")


def check_usage_incidents(incidents: Sequence[tuple[datetime, int, Incident]], limits: Limits) -> Finding:
    """Judge whether something happened to the usage log itself."""
    hours = limits.incident_memory / timedelta(hours=1)
    if not incidents:
        return ok("usage-incidents", f"none in {hours:g} h")
    at, partition, incident = incidents[0]
    detail = f"{len(incidents)} in {hours:g} h; {at:%Y-%m-%d %H:%M:%SZ}, partition {partition}: {incident.detail}"
    fixes = {
        "log_over_cap": "export NIGHTCREW_USAGE__LOG_CAP_BYTES=$((2 * 512 * 1024 * 1024))",
        "signature_unknown": "nightcrew jobs dead --all   # ops/signing.md: when to take a key out",
    }
    return warning("usage-incidents", detail, fix=fixes.get(incident.kind, "nightcrew usage replay"))


def check_partitions(published: int | None, configured: int, *, up: str) -> Finding:
    """Judge whether apps spread their counts over as many partitions as the settings say."""
    if published is None:
        return ok("partitions", "the log has not begun")
    if published == configured:
        return ok("partitions", f"{published}")
    detail = f"apps were told {published}, the settings say {configured}"
    return warning("partitions", detail, fix=f"{up}   # a starting crew tells the apps")


def check_bells(stuck: Collection[str], *, cli: str) -> Finding:
    """Judge whether a doorbell rings for ever: no flush rings it again, and only the timetable drains."""
    if not stuck:
        return ok("doorbells", "none is stuck")
    return warning("doorbells", f"without an end: {', '.join(stuck)}", fix=f"{cli} DEL {' '.join(stuck)}")


def _holds_too_much(queue: QueueFacts, limits: Limits) -> bool:
    is_old = queue.oldest_unacked_age is not None and queue.oldest_unacked_age > limits.unacked_age
    return is_old or queue.unacked > limits.unacked_messages


def _by_age(check: str, age: timedelta, limit: timedelta, detail: str, *, fix: str) -> Finding:
    if age <= limit:
        return ok(check, detail)
    return (error if age > _MUCH * limit else warning)(check, detail, fix=fix)


def _seconds(age: timedelta | None) -> str:
    return "an unknown time" if age is None else f"{age.total_seconds():,.0f} s"
