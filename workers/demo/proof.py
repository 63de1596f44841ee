"""What must hold in the end: sent against counted, line by line. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.demo.events import Event


class Place(NamedTuple):
    """What is counted by itself."""

    key: str
    context: str


class Uses(NamedTuple):
    """Uses of one place."""

    total: int
    accepted: int
    rejected: int


Counts = dict[Place, Uses]

_NONE = Uses(0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofLine:
    """One claim of the demo and what was measured."""

    claim: str
    measured: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run of the demo has measured."""

    expected: Counts
    before: Counts
    after: Counts
    history_agrees: bool
    seconds: float
    killed_pid: int
    successor_pid: int
    doorbells_lost: int
    """Messages thrown away on purpose while no worker ran."""
    left_behind: int = 0
    """Processes of the crew that are still there after its end."""


def expect(events: Iterable[Event], *, rounds: int) -> Counts:
    """Count events the obvious way."""
    accepted: Counter[Place] = Counter()
    total: Counter[Place] = Counter()
    for event in events:
        place = Place(event.key, event.context)
        total[place] += rounds
        accepted[place] += rounds * event.accepted
    return {place: Uses(uses, accepted[place], uses - accepted[place]) for place, uses in total.items()}


def prove(run: Run) -> list[ProofLine]:
    """Compare what was sent with what is in the database."""
    sent = sum(uses.total for uses in run.expected.values())
    counted = sum(uses.total for uses in run.after.values()) - sum(uses.total for uses in run.before.values())
    wrong = differing(run.expected, run.before, run.after)
    return [
        ProofLine(claim="events sent", measured=f"{sent:,}", holds=sent > 0),
        ProofLine(claim="counts in the database", measured=f"{counted:,}", holds=counted == sent),
        ProofLine(claim="difference", measured=f"{counted - sent:,}", holds=counted == sent),
        ProofLine(claim="single counts compared", measured=f"{len(run.expected):,}", holds=bool(run.expected)),
        ProofLine(claim="single counts that differ", measured=f"{len(wrong):,}", holds=not wrong),
        ProofLine(
            claim="hourly history sums to the counts", measured=_yes(run.history_agrees), holds=run.history_agrees
        ),
        ProofLine(
            claim="worker killed with kill -9, started again",
            measured=f"pid {run.killed_pid} -> {run.successor_pid}",
            holds=run.killed_pid != run.successor_pid,
        ),
        ProofLine(
            claim="doorbells lost / recovered",
            measured=f"{run.doorbells_lost} / {run.doorbells_lost if counted == sent else 0}",
            holds=run.doorbells_lost > 0 and counted == sent,
        ),
        ProofLine(claim="time, first event to last commit", measured=f"{run.seconds:.2f} s", holds=run.seconds > 0),
        ProofLine(claim="increments per second", measured=f"{sent / run.seconds:,.0f}", holds=True),
        ProofLine(claim="processes left behind", measured=f"{run.left_behind}", holds=run.left_behind == 0),
    ]


def differing(expected: Mapping[Place, Uses], before: Mapping[Place, Uses], after: Mapping[Place, Uses]) -> list[Place]:
    """Name the places whose counts did not grow by exactly what was sent."""
    places = expected.keys() | before.keys() | after.keys()
    return sorted(
        place
        for place in places
        if after.get(place, _NONE) != _sum(before.get(place, _NONE), expected.get(place, _NONE))
    )


def _sum(one: Uses, other: Uses) -> Uses:
    return Uses(one.total + other.total, one.accepted + other.accepted, one.rejected + other.rejected)


def _yes(holds: bool) -> str:  # noqa: FBT001  there is nothing else to say about it
    return "yes" if holds else "no"
