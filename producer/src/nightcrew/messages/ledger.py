"""Messages of the job ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nightcrew.errors import InvalidMessageError
from nightcrew.messages.base import Message

_MAX_NOTE_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class ReconcileLedger(Message):
    """Compare what should run with what does, and mend the difference."""

    kind: ClassVar[str] = "ledger.reconcile"
    queue: ClassVar[str] = "nightcrew.ledger"


@dataclass(frozen=True, kw_only=True)
class RunCanary(Message):
    """Go all the way through broker, worker and ledger and do nothing else.

    The smallest job there is: it proves that the crew takes jobs, and how fast.
    """

    kind: ClassVar[str] = "ledger.canary"
    queue: ClassVar[str] = "nightcrew.ledger"

    note: str = ""
    """Comes back as the result; at most 200 characters."""

    def __post_init__(self) -> None:
        if type(self.note) is not str or len(self.note) > _MAX_NOTE_CHARACTERS:
            msg = f"note must be text of at most {_MAX_NOTE_CHARACTERS} characters"
            raise InvalidMessageError(msg)
