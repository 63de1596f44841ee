"""What an operator's word does to a run, or would do: planned from values, told as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from tasks.ledger.states import CancelDecision, State, decide_cancel, decide_retry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tasks.ledger.runs import Run

Action = Literal["retry", "cancel", "request", "wait", "refuse"]
"""`retry`: queued again. `cancel`: ended at once. `request`: its worker is asked to stop at its next checkpoint.
`wait`: its worker was asked before. `refuse`: left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """One run and what was done to it, or would be."""

    id: str
    kind: str
    state: State
    """Where it stands now."""
    action: Action
    reason: str
    problem: str | None = None
    """What could not be done with it as yet, and will be made up for by the reconciler."""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values."""
        return {
            "id": self.id,
            "kind": self.kind,
            "state": str(self.state),
            "action": self.action,
            "reason": self.reason,
            "problem": self.problem,
        }


def plan_retry_of(run: Run) -> Treatment:
    """Say what a retry would do."""
    verdict = decide_retry(run)
    return treatment(run, "retry" if verdict.yes else "refuse", verdict.reason)


def plan_cancel_of(run: Run, *, now: datetime) -> Treatment:
    """Say what calling it off would do."""
    decision: CancelDecision = decide_cancel(run, now=now)
    return treatment(run, decision.action, decision.reason)


def treatment(run: Run, action: Action, reason: str, *, problem: str | None = None) -> Treatment:
    """Make a treatment of a run as it stands."""
    return Treatment(id=run.id, kind=run.kind, state=run.state, action=action, reason=reason, problem=problem)


_OF_CHILDREN: Final[Mapping[State, Action]] = {State.CANCELLED: "cancel", State.RUNNING: "request"}


def treatment_of_child(child: Run) -> Treatment:
    """Make the treatment of a run that was called off with its parent."""
    return treatment(child, _OF_CHILDREN[child.state], f"asked for by run {child.parent_id}")
