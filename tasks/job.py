"""How a plain function becomes a job: decode, claim, run, record. The only Celery of the tasks.

    @job(RunCanary, retry=STANDARD)
    def run_canary(message: RunCanary, runtime: Runtime) -> dict[str, Any]: ...

    @job(RunBackup, retry=PATIENT, exclusive=lambda message: (f"backups:{message.vault}",))
    def run_backup(message: RunBackup, runtime: Runtime) -> dict[str, Any]: ...

The decorators register a Celery task under the kind of the message and give the function back as it is: tests and other
code call it directly. `run_job` is what the task does, without Celery.

What an error of the function means: `PermanentError` ends the run as failed. `TransientError`, and any error that
nobody thought of, is tried again by the retry policy until its attempts are used up: then the run is dead.
`ResourceBusyError` puts the run back without counting the attempt. `CancelledError` and `LeaseLostError` are what
`runtime.attempt.checkpoint()` raises: let them pass.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import structlog
from celery import Task, shared_task
from celery.exceptions import Reject

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from nightcrew.signing import SignatureError
from tasks import runtime as runtimes
from tasks.errors import CancelledError, PermanentError, ResourceBusyError, TransientError
from tasks.ledger.attempts import RunAttempt, storable
from tasks.ledger.dead_letters import letter_of_message
from tasks.ledger.forgetting import why_forgotten
from tasks.ledger.intents import is_readable_version
from tasks.ledger.resources import DEFER_AT_MOST
from tasks.ledger.retries import STANDARD, RetryPolicy
from tasks.ledger.runs import instant, is_job_id, wanted_run
from tasks.ledger.states import Move, State
from tasks.ledger.store import children, mirror, queries, runs, streams
from tasks.ledger.store.runs import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from nightcrew.messages import Message
    from tasks.ledger.runs import Run, WantedRun
    from tasks.ledger.store.runs import Claim
    from tasks.runtime import Runtime

Function = TypeVar("Function", bound="Callable[..., Any]")
SomeMessage = TypeVar("SomeMessage", bound="Message")
Verdict = Literal[
    "succeeded",
    "failed",
    "dead",
    "missed",
    "cancelled",
    "retried",
    "deferred",
    "skipped",
    "lost",
    "rung",
    "postponed",
    "dead_lettered",
]
"""What became of a delivery. The first five are outcomes of the run; a deferred one waits for what another uses."""

LONGEST_COUNTDOWN: Final = timedelta(seconds=60)
"""A worker holds a message with a countdown unacknowledged, and another one gets it as well once the visibility
timeout is over. Longer waits are left to the reconciler."""

_VERDICTS: Final[Mapping[State, Verdict]] = {
    State.QUEUED: "retried",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.DEAD: "dead",
    State.MISSED: "missed",
    State.CANCELLED: "cancelled",
}

_CLAIM_AGAIN_IN: Final = timedelta(seconds=10)

_log = structlog.get_logger(__name__)
_chance = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A job as it was declared."""

    message_type: type[Message]
    function: Callable[[Any, Runtime], Any]
    retry: RetryPolicy
    row_optional: bool
    """Run it also when the ledger has no row for it, and then without one: a doorbell."""
    exclusive: Callable[[Any], Collection[str]] | None = None
    """Names what no other run may use at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as Celery handed it over."""

    id: str | None
    payload: Mapping[str, Any]
    headers: Mapping[str, Any]
    arguments: tuple[Any, ...] = ()
    """Positional arguments; our messages have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a delivery."""

    verdict: Verdict
    reason: str
    publish_again_in: timedelta | None = None
    """Set when the message is to come again that soon; None leaves that to the reconciler."""


def job(
    message_type: type[SomeMessage],
    *,
    retry: RetryPolicy = STANDARD,
    exclusive: Callable[[SomeMessage], Collection[str]] | None = None,
) -> Callable[[Function], Function]:
    """Register a function as the job of a message: one run of the ledger each, with one outcome.

    `exclusive` names the resources of which the run needs the only use. It has all of them before the work begins, and
    none after its outcome; as long as another run has one of them it waits, which costs no attempt.
    """
    return partial(_register, message_type, retry, exclusive=exclusive, row_optional=False)


def doorbell(message_type: type[Message]) -> Callable[[Function], Function]:
    """Register a function as a job that needs no run of the ledger, because the next message makes up for a lost one.

    Where a run exists all the same (a slot of the timetable, an app that enqueued it), it is claimed and ended as
    that of any job.
    """
    return partial(_register, message_type, STANDARD, row_optional=True)


def definition_of(kind: str) -> Definition:
    """Find a job by the kind of its message.

    Raises:
        LookupError: no module that was imported declares it.
    """
    return _definitions[kind]


def run_job(definition: Definition, delivery: Delivery, runtime: Runtime) -> Outcome:
    """Do what a message asks for, once, however often it is delivered.

    Raises:
        TransientError: database or broker were in the way before anything was decided.
    """
    try:
        _check_signature(definition, delivery, runtime)
        wanted, message = _read(definition, delivery, now=runtime.clock())
        exclusive = _resources(definition, message)
    except SignatureError as error:
        return _keep_letter(definition, delivery, runtime, reason=str(error))  # it ends no run: anyone may name one
    except InvalidMessageError as error:
        return _to_dead_letters(definition, delivery, runtime, reason=str(error))
    bound = {"correlation_id": wanted.correlation_id, "job_id": wanted.id, "kind": wanted.kind}
    with structlog.contextvars.bound_contextvars(**bound):
        if definition.row_optional and not _has_run(delivery, wanted.id, runtime):
            return _ring(definition, delivery, message, runtime)
        if (reason := why_forgotten(runtime, wanted)) is not None:
            return _to_dead_letters(definition, delivery, runtime, reason=reason)
        return _claim_and_run(definition, wanted, message, runtime, exclusive=exclusive)


def _has_run(delivery: Delivery, job_id: str, runtime: Runtime) -> bool:
    """Tell whether the ledger owes a doorbell an outcome; it may not have taken the intent in yet."""
    return bool(delivery.headers.get(wire.HEADER_INTENT)) or queries.exists(runtime.engine, job_id)


_definitions: dict[str, Definition] = {}


def _register(
    message_type: type[Message],
    retry: RetryPolicy,
    function: Function,
    *,
    row_optional: bool,
    exclusive: Callable[[Any], Collection[str]] | None = None,
) -> Function:
    definition = Definition(
        message_type=message_type, function=function, retry=retry, row_optional=row_optional, exclusive=exclusive
    )
    _definitions[message_type.kind] = definition

    def deliver(task: Task[Any, Any], /, *arguments: Any, **payload: Any) -> None:
        _deliver(definition, task, arguments, payload)

    deliver.__doc__ = function.__doc__
    shared_task(name=message_type.kind, bind=True, acks_late=True, ignore_result=True, max_retries=None)(deliver)
    return function


def _deliver(definition: Definition, task: Task[Any, Any], arguments: tuple[Any, ...], payload: dict[str, Any]) -> None:
    """Run a job for Celery, and tell Flower what became of it: the states there mean what those of the ledger mean."""
    headers = {
        name: value for name, value in (task.request.headers or {}).items() if str(name).startswith("nightcrew_")
    }
    delivery = Delivery(id=task.request.id, payload=payload, headers=headers, arguments=arguments)
    # Said again because Celery's retry would build a repr of all arguments and keep headers that are not ours.
    stamps = {"headers": headers, "queue": definition.message_type.queue, "argsrepr": "()", "kwargsrepr": "{...}"}
    retry: Callable[..., Exception] = task.retry
    again = partial(retry, max_retries=None, **stamps)
    try:
        outcome = run_job(definition, delivery, runtimes.current())
    except TransientError as error:
        if definition.row_optional:
            _log.warning("job.postponed", kind=definition.message_type.kind, reason=str(error))
            return
        raise again(exc=error, countdown=_CLAIM_AGAIN_IN.total_seconds()) from error
    if outcome.publish_again_in is not None:
        raise again(countdown=outcome.publish_again_in.total_seconds())
    if outcome.verdict == "dead_lettered":
        raise Reject(outcome.reason, requeue=False)
    if outcome.verdict in {"failed", "dead", "missed"}:
        raise PermanentError(outcome.reason)
    if outcome.verdict == "cancelled":
        raise CancelledError(outcome.reason)


def _check_signature(definition: Definition, delivery: Delivery, runtime: Runtime) -> None:
    kind = definition.message_type.kind
    runtime.guard.check_message(kind=kind, job_id=delivery.id, payload=delivery.payload, headers=delivery.headers)


def _read(definition: Definition, delivery: Delivery, *, now: datetime) -> tuple[WantedRun, Message]:
    if delivery.arguments:
        msg = f"{len(delivery.arguments)} positional arguments; a payload is keyword arguments only"
        raise InvalidMessageError(msg)
    if not is_readable_version(version := delivery.headers.get(wire.HEADER_SCHEMA)):
        msg = f"{wire.HEADER_SCHEMA} is {version!r:.20}, which this release does not read"
        raise InvalidMessageError(msg)
    at = delivery.headers.get(wire.HEADER_ENQUEUED_AT)
    wanted = wanted_run(
        job_id=delivery.id,
        kind=definition.message_type.kind,
        payload=delivery.payload,
        dedup_key=delivery.headers.get(wire.HEADER_DEDUP_KEY),
        correlation_id=delivery.headers.get(wire.HEADER_CORRELATION_ID),
        enqueued_at=now if at is None else instant(at, name=wire.HEADER_ENQUEUED_AT),
    )
    return wanted, definition.message_type.from_payload(delivery.payload)


def _resources(definition: Definition, message: Message) -> Collection[str]:
    if definition.exclusive is None:
        return ()
    try:
        return frozenset(definition.exclusive(message))
    except Exception as error:
        # No attempt has begun that could count it: without this, such a message would come back for ever.
        msg = f"cannot tell what the job needs for itself: {type(error).__name__}: {error}"
        raise InvalidMessageError(msg) from error


def _to_dead_letters(definition: Definition, delivery: Delivery, runtime: Runtime, *, reason: str) -> Outcome:
    # The run first: should the broker be away after it, the message comes again and finds nothing left but the letter.
    run = queries.by_id(runtime.engine, delivery.id) if is_job_id(delivery.id) else None
    if run is not None and run.state is State.QUEUED:
        _mirror(runtime, runs.end(runtime.engine, run, move=Move(to=State.FAILED, reason=reason), now=runtime.clock()))
    return _keep_letter(definition, delivery, runtime, reason=reason)


def _keep_letter(definition: Definition, delivery: Delivery, runtime: Runtime, *, reason: str) -> Outcome:
    kind, queue = definition.message_type.kind, definition.message_type.queue
    headers = {**delivery.headers, "task": kind, "id": delivery.id}
    letter = letter_of_message(
        source=queue, headers=headers, payload=delivery.payload, reason=reason, received_at=runtime.clock()
    )
    streams.append_dead_letter(runtime.redis, letter)
    _log.error("job.dead_lettered", kind=kind, job_id=delivery.id, reason=reason)
    return Outcome(verdict="dead_lettered", reason=reason)


def _ring(definition: Definition, delivery: Delivery, message: Message, runtime: Runtime) -> Outcome:
    try:
        definition.function(message, runtime)
    except PermanentError as error:
        return _to_dead_letters(definition, delivery, runtime, reason=str(error))
    except TransientError as error:
        # Nothing is lost by it: that the next one makes up for this one is what makes it a doorbell.
        _log.warning("job.postponed", reason=str(error))
        return Outcome(verdict="postponed", reason=str(error))
    return Outcome(verdict="rung", reason="done without a run")


def _claim_and_run(
    definition: Definition, wanted: WantedRun, message: Message, runtime: Runtime, *, exclusive: Collection[str]
) -> Outcome:
    claim = runs.claim(
        runtime.engine,
        wanted,
        now=runtime.clock(),
        worker=runtime.worker_name,
        lease=runtime.ledger.lease,
        max_attempts=definition.retry.max_attempts or runtime.ledger.max_attempts,
        exclusive=exclusive,
    )
    if claim.run is None or not claim.taken:
        _mirror(runtime, claim.run, duplicate=wanted, reason=claim.reason)
        return _not_taken(claim, runtime)
    _log.info("job.started", attempt=claim.run.attempt)
    attempt = RunAttempt(claim.run, runtime, fences=claim.fences)
    try:
        with attempt.kept():
            result = storable(definition.function(message, replace(runtime, attempt=attempt)))
    except Exception as error:  # noqa: BLE001  this is where every error of a job ends: in its run
        return _record_error(definition, claim.run, attempt, error, runtime)
    ended = attempt.completed() or runs.succeed(runtime.engine, claim.run, result=result, now=runtime.clock())
    return _recorded(runtime, ended, reason="done")


def _not_taken(claim: Claim, runtime: Runtime) -> Outcome:
    if claim.run is not None and claim.ended:
        _log.error("job.given_up", state=claim.run.state, reason=claim.reason)
        return Outcome(verdict=_VERDICTS[claim.run.state], reason=claim.reason)
    if claim.again_at is not None:
        _log.info("job.deferred", reason=claim.reason)
        return Outcome(verdict="deferred", reason=claim.reason, publish_again_in=claim.again_at - runtime.clock())
    _log.info("job.skipped", reason=claim.reason)
    return Outcome(verdict="skipped", reason=claim.reason)


def _record_error(definition: Definition, run: Run, attempt: RunAttempt, error: Exception, runtime: Runtime) -> Outcome:
    if completed := attempt.completed():
        _log.error("job.raised_after_success", attempt=run.attempt, exc_info=error)
        return _recorded(runtime, completed, reason="done, before the work raised an error")
    failure = _failure(error)
    _log.warning(
        "job.raised", attempt=run.attempt, reason=failure.reason, exc_info=None if _is_foreseen(failure) else error
    )
    delay = DEFER_AT_MOST if failure.busy else definition.retry.delay_after(run.attempt, chance=_chance.random())
    now, soon = runtime.clock(), delay <= LONGEST_COUNTDOWN
    failed = runs.fail(
        runtime.engine,
        run,
        failure,
        now=now,
        published_at=now if soon else None,
        republish_at=now + delay + (runtime.ledger.republish_after if soon else timedelta(0)),
    )
    again_in = delay if soon and failed is not None and failed.state is State.QUEUED else None
    return _recorded(runtime, failed, reason=failure.reason, deferred=failure.busy, publish_again_in=again_in)


def _failure(error: Exception) -> Failure:
    if isinstance(error, CancelledError):
        return Failure(reason=str(error) or "the work says that it was called off", called_off=True)
    if isinstance(error, ResourceBusyError):
        return Failure(reason=str(error), busy=True)
    return Failure(reason=f"{type(error).__name__}: {error}", permanent=isinstance(error, PermanentError))


def _is_foreseen(failure: Failure) -> bool:
    """Say whether an error is how a job ends by the rules, and its traceback tells nobody anything."""
    return failure.busy or failure.called_off


def _recorded(
    runtime: Runtime, run: Run | None, *, reason: str, deferred: bool = False, publish_again_in: timedelta | None = None
) -> Outcome:
    if run is None:
        _log.warning("job.lost", reason="another worker took the run over; nothing of this attempt is kept")
        return Outcome(verdict="lost", reason="another worker took the run over")
    _mirror(runtime, run)
    verdict = "deferred" if deferred and run.state is State.QUEUED else _VERDICTS[run.state]
    _log.info("job.ended", verdict=verdict, attempt=run.attempt)
    return Outcome(verdict=verdict, reason=reason, publish_again_in=publish_again_in)


def _mirror(runtime: Runtime, run: Run | None, *, duplicate: WantedRun | None = None, reason: str = "") -> None:
    """Show apps what is committed. A broker that is away must not undo it: the reconciler makes up for the write."""
    ttl = runtime.ledger.mirror_ttl
    try:
        if run is not None:
            called_off = children.changed_with(runtime.engine, [run])
            mirror.write(runtime.redis, [run, *called_off], ttl=ttl)
        elif duplicate is not None:
            mirror.write_duplicate(runtime.redis, duplicate, reason=reason, now=runtime.clock(), ttl=ttl)
    except TransientError as error:
        _log.warning("job.mirror_postponed", reason=str(error))
