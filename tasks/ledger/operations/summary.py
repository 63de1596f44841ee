"""The ledger and its queues at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightcrew import wire
from nightcrew.messages import kinds, message_type
from tasks.ledger.states import State
from tasks.ledger.store import letters, queries, queues, streams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasks.ledger.store.queues import QueueDepth
    from tasks.runtime import Runtime


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
