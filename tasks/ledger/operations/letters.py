"""Dead letters: looking at them, and trying them again, one or many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from nightcrew.messages import message_type
from nightcrew.signing import SignatureError
from tasks.errors import PermanentError
from tasks.ledger import reconciliation
from tasks.ledger.dead_letters import Reappend, check_origin, plan_retry, signed_anew
from tasks.ledger.filters import LetterFilter
from tasks.ledger.operations.retrying import NotRetryableError, restart
from tasks.ledger.states import decide_retry
from tasks.ledger.store import letters, queries, streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from tasks.ledger.dead_letters import KeptLetter, Republish
    from tasks.runtime import Runtime


class UnknownLetterError(PermanentError):
    """No dead letter has this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterTreatment:
    """One dead letter, and whether it was tried again, or would be."""

    id: int
    source: str
    kind: str | None
    accepted: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values."""
        return {
            "id": self.id,
            "source": self.source,
            "kind": self.kind,
            "accepted": self.accepted,
            "reason": self.reason,
        }


def list_dead_letters(
    runtime: Runtime, wanted: LetterFilter | None = None, *, include_retried: bool = False, limit: int = 50
) -> list[KeptLetter]:
    """List dead letters, the last received first; those that just arrived are taken in before."""
    reconciliation.take_in_dead_letters(runtime)
    return letters.newest(runtime.engine, wanted or LetterFilter(), include_retried=include_retried, limit=limit)


def select_dead_letters(runtime: Runtime, wanted: LetterFilter, *, limit: int | None = None) -> list[int]:
    """List the numbers of those that nobody has tried again, the first received first; new ones are taken in before."""
    reconciliation.take_in_dead_letters(runtime)
    return letters.open_numbers(runtime.engine, wanted, limit=limit)


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


def plan_letters(runtime: Runtime, numbers: Iterable[int], *, vouch: bool = False) -> Iterator[LetterTreatment]:
    """Say of each letter what `retry_dead_letters` would do."""
    for number in numbers:
        letter = find_dead_letter(runtime, number)
        try:
            plan = _plan(runtime, letter, vouch=vouch)
        except InvalidMessageError as error:
            yield _treatment(letter, str(error), accepted=False)
            continue
        run = None if isinstance(plan, Reappend) else queries.by_id(runtime.engine, plan.run.id)
        refusal = None if run is None or decide_retry(run).yes else decide_retry(run).reason
        yield _treatment(letter, refusal or _way(letter), accepted=refusal is None)


def retry_dead_letters(runtime: Runtime, numbers: Iterable[int], *, vouch: bool = False) -> Iterator[LetterTreatment]:
    """Try letters again, and say of each what came of it; one that is refused does not keep the others.

    Raises:
        TransientError: database or broker were in the way; what was told before has been done.
    """
    for number in numbers:
        try:
            letter = retry_dead_letter(runtime, number, vouch=vouch)
        except NotRetryableError as error:
            yield _treatment(find_dead_letter(runtime, number), str(error), accepted=False)
        else:
            yield _treatment(letter, _way(letter), accepted=True)


def retry_dead_letter(runtime: Runtime, letter_id: int, *, vouch: bool = False) -> KeptLetter:
    """Try a dead letter again: a message goes on its queue, an entry on its stream; give the letter as it is now.

    The crew signs it. `vouch`: also where it came with no signature, or a wrong one, and is only as the operator says.

    Raises:
        UnknownLetterError: there is none.
        NotRetryableError: this release cannot read it either, or its run does not allow it.
        TransientError: database or broker were in the way; nothing was retried.
    """
    letter = find_dead_letter(runtime, letter_id)
    try:
        plan = _plan(runtime, letter, vouch=vouch)
    except InvalidMessageError as error:
        raise NotRetryableError(str(error)) from error
    if isinstance(plan, Reappend):
        now = replace(plan, fields=_asked_for_now(plan, runtime.clock()))
        streams.append_entry(runtime.redis, plan.stream, signed_anew(now, runtime.guard))
    else:
        _republish(runtime, plan)
    letters.note_retried(runtime.engine, letter.id, now=runtime.clock())
    return find_dead_letter(runtime, letter_id)


def _plan(runtime: Runtime, letter: KeptLetter, *, vouch: bool) -> Republish | Reappend:
    if not vouch:
        try:
            check_origin(letter, runtime.guard)
        except SignatureError as error:
            msg = f"{error}; --vouch signs it as the crew"
            raise InvalidMessageError(msg) from error
    return plan_retry(letter)


def _republish(runtime: Runtime, plan: Republish) -> None:
    run = queries.by_id(runtime.engine, plan.run.id)
    if run is None:
        message = message_type(plan.run.kind).from_payload(plan.run.payload)
        runtime.publisher.publish(
            message,
            job_id=plan.run.id,
            correlation_id=plan.run.correlation_id,
            enqueued_at=runtime.clock(),  # as in `_asked_for_now`
        )
        return
    # The run of an unreadable message has failed by it: a message alone would find it ended and do nothing.
    reconciliation.publish_now(runtime, restart(runtime, run, by="its dead letter"))


def _asked_for_now(plan: Reappend, now: datetime) -> dict[bytes, bytes]:
    """Give the fields of an entry. An intent counts from now: it may be older than what the ledger remembers."""
    if plan.stream != wire.INTENTS:
        return plan.fields
    return {**plan.fields, b"enqueued_at": repr(now.timestamp()).encode()}


def _way(letter: KeptLetter) -> str:
    return f"on its way to {letter.source}"


def _treatment(letter: KeptLetter, reason: str, *, accepted: bool) -> LetterTreatment:
    return LetterTreatment(id=letter.id, source=letter.source, kind=letter.kind, accepted=accepted, reason=reason)
