"""What an operator asks of the ledger, and does to it. Every value has `to_json()`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from nightcrew.messages import kinds, message_type
from tasks.errors import PermanentError
from tasks.ledger import reconciliation
from tasks.ledger.dead_letters import Reappend, plan_retry
from tasks.ledger.states import State, decide_retry
from tasks.ledger.store import letters, mirror, queries, queues, runs, streams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasks.ledger.dead_letters import KeptLetter, Republish
    from tasks.ledger.runs import Run
    from tasks.ledger.store.queues import QueueDepth
    from tasks.runtime import Runtime

_ID_PREFIX: Final = re.compile("[0-9a-f-]{1,36}")


class UnknownRunError(PermanentError):
    """No run has this id, or more than one has an id that begins so."""


class UnknownLetterError(PermanentError):
    """No dead letter has this number."""


class NotRetryableError(PermanentError):
    """The run or letter cannot be tried again as it stands; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSummary:
    """The ledger at a glance."""

    runs: dict[State, int]
    """Count of the runs of each state, 0 included."""
    open_dead_letters: int
    """Letters that nobody has tried again, those included that are still to be taken in."""
    waiting_intents: int
    """Jobs that apps asked for and that the ledger has not taken in yet."""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values."""
        return {
            "runs": {str(state): count for state, count in self.runs.items()},
            "open_dead_letters": self.open_dead_letters,
            "waiting_intents": self.waiting_intents,
        }


def list_runs(runtime: Runtime, *, state: State | None = None, kind: str | None = None, limit: int = 50) -> list[Run]:
    """List runs, the last queued first."""
    return queries.newest(runtime.engine, state=state, kind=kind, limit=limit)


def find_run(runtime: Runtime, id_or_prefix: str) -> Run:
    """Find one run by its id or by a beginning of it that no other shares.

    Raises:
        UnknownRunError: there is none, or more than one.
    """
    prefix = id_or_prefix.strip().lower()
    found = queries.by_prefix(runtime.engine, prefix) if _ID_PREFIX.fullmatch(prefix) else []
    if not found:
        msg = f"no run has an id that begins with {id_or_prefix!r}"
        raise UnknownRunError(msg)
    if len(found) > 1:
        msg = f"more than one run has an id that begins with {id_or_prefix!r}: {found[0].id}, {found[1].id}, …"
        raise UnknownRunError(msg)
    return found[0]


def retry_run(runtime: Runtime, run_id: str) -> Run:
    """Put an ended run on its queue again, with all its attempts; give it as it stands now.

    Raises:
        UnknownRunError: see `find_run`.
        NotRetryableError: it succeeded, was cancelled, or has not ended.
        TransientError: the broker did not take its message; the run is queued, and the reconciler publishes it.
    """
    run = _restart(runtime, find_run(runtime, run_id))
    reconciliation.publish_now(runtime, run)
    return find_run(runtime, run.id)


def list_dead_letters(runtime: Runtime, *, include_retried: bool = False, limit: int = 50) -> list[KeptLetter]:
    """List dead letters, the last received first; those that just arrived are taken in before."""
    reconciliation.take_in_dead_letters(runtime)
    return letters.newest(runtime.engine, include_retried=include_retried, limit=limit)


def find_dead_letter(runtime: Runtime, letter_id: int) -> KeptLetter:
    """Find one dead letter by its number.

    Raises:
        UnknownLetterError: there is none.
    """
    letter = letters.by_id(runtime.engine, letter_id)
    if letter is None:
        msg = f"no dead letter has the number {letter_id}"
        raise UnknownLetterError(msg)
    return letter


def retry_dead_letter(runtime: Runtime, letter_id: int) -> KeptLetter:
    """Try a dead letter again: a message goes on its queue, an entry on its stream; give the letter as it is now.

    Raises:
        UnknownLetterError: there is none.
        NotRetryableError: this release cannot read it either, or its run does not allow it.
        TransientError: database or broker were in the way; nothing was retried.
    """
    letter = find_dead_letter(runtime, letter_id)
    try:
        plan = plan_retry(letter)
    except InvalidMessageError as error:
        raise NotRetryableError(str(error)) from error
    if isinstance(plan, Reappend):
        streams.append_entry(runtime.redis, plan.stream, plan.fields)
    else:
        _republish(runtime, plan)
    letters.note_retried(runtime.engine, letter.id, now=runtime.clock())
    return find_dead_letter(runtime, letter_id)


def queue_depths(runtime: Runtime, queue_names: Iterable[str] | None = None) -> list[QueueDepth]:
    """Look at queues, by default at all that any message goes to, in the order of their names."""
    names = {message_type(kind).queue for kind in kinds()} if queue_names is None else set(queue_names)
    return queues.depths(runtime.redis, sorted(names))


def summarize(runtime: Runtime) -> LedgerSummary:
    """Count what is in the ledger."""
    counts = queries.count_by_state(runtime.engine)
    return LedgerSummary(
        runs={state: counts.get(state, 0) for state in State},
        open_dead_letters=letters.count_open(runtime.engine) + streams.entry_count(runtime.redis, wire.DEAD_LETTERS),
        waiting_intents=streams.entry_count(runtime.redis, wire.INTENTS),
    )


def _restart(runtime: Runtime, run: Run) -> Run:
    verdict = decide_retry(run)
    if not verdict.yes:
        msg = f"run {run.id} cannot be retried: {verdict.reason}"
        raise NotRetryableError(msg)
    restarted = runs.restart(runtime.engine, run, now=runtime.clock())
    if restarted is None:
        msg = f"run {run.id} cannot be retried: someone else has just changed it"
        raise NotRetryableError(msg)
    mirror.write(runtime.redis, [restarted], ttl=runtime.ledger.mirror_ttl)
    return restarted


def _republish(runtime: Runtime, plan: Republish) -> None:
    run = queries.by_id(runtime.engine, plan.run.id)
    if run is None:
        message = message_type(plan.run.kind).from_payload(plan.run.payload)
        runtime.publisher.publish(
            message,
            job_id=plan.run.id,
            correlation_id=plan.run.correlation_id,
            enqueued_at=plan.run.enqueued_at,
        )
        return
    # The run of an unreadable message has failed by it: a message alone would find it ended and do nothing.
    reconciliation.publish_now(runtime, _restart(runtime, run))
