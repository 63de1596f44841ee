"""How the members of the crew are ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.supervisor import members

if TYPE_CHECKING:
    from workers.supervisor.child import StopStep


def test_the_longest_end_fits_into_the_promise() -> None:
    """Even when nobody heeds a signal: beat, then workers and Flower together, then the broker, in less than 20 s."""
    together = max(total_s(members.WORKER_STOP), total_s(members.FLOWER_STOP))
    assert total_s(members.BEAT_STOP) + together + total_s(members.BROKER_STOP) < 19.0


def total_s(steps: tuple[StopStep, ...]) -> float:
    return sum(step.wait_s for step in steps)
