"""What becomes of a ping to a dead-man switch after a try: a pure decision that says why.

The protocol is that of healthchecks.io (https://healthchecks.io/docs/http_api/): `start`, `success`, `fail` and `log`,
each with the id of the run. It is what a switch outside hears when all else is dead, so it is tried for a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

GIVE_UP_AFTER: Final = timedelta(hours=24)
FIRST_DELAY: Final = timedelta(seconds=2)
LONGEST_DELAY: Final = timedelta(minutes=5)

MOST_WAITING: Final = 100
"""Of one entry. A month of missed slots is not told one by one: the switch would hear of today only after all that."""

MAX_BODY_BYTES: Final = 10_000
"""What healthchecks.io keeps of a body at least (https://healthchecks.io/docs/attaching_logs/)."""

# Too early, too many, out of time: these pass. Any other 4xx says that the address is wrong, and a redirect that it
# is another one: the same request will have the same answer.
_PASSING_STATUSES: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePing:
    """A ping that one sender has claimed, to be sent now."""

    id: int
    entry: str
    run_id: str
    signal: str
    detail: str | None
    created_at: datetime
    tries: int
    """This one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a try did not get through."""

    reason: str
    """Fit for logs: it has no address in it."""
    is_final: bool = False
    """Whether the same request will fail again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTry:
    """When to try again; None gives the ping up."""

    at: datetime | None
    reason: str


def failure_of_status(status: int) -> Failure | None:
    """Judge the status of an answer; None when it got through."""
    if 200 <= status < 300:  # noqa: PLR2004  the class of success
        return None
    if 300 <= status < 400:  # noqa: PLR2004  the class of redirects
        return Failure(reason=f"status {status}: redirects are not followed, name the final address", is_final=True)
    is_final = 400 <= status < 500 and status not in _PASSING_STATUSES  # noqa: PLR2004  the class of our own errors
    return Failure(reason=f"status {status}", is_final=is_final)


def decide_next_try(ping: DuePing, failure: Failure, *, now: datetime) -> NextTry:
    """Decide when a ping that failed is tried again: after twice as long each time, until it is a day old."""
    if failure.is_final:
        return NextTry(at=None, reason=failure.reason)
    if now - ping.created_at >= GIVE_UP_AFTER:
        return NextTry(at=None, reason=f"{failure.reason}; given up after {ping.tries} tries in a day")
    doublings = min(ping.tries - 1, 20)
    return NextTry(at=now + min(FIRST_DELAY * 2**doublings, LONGEST_DELAY), reason=failure.reason)


def body_of(detail: str | None) -> bytes:
    """Give the body: the detail, cut at a whole character."""
    return (detail or "").encode("utf-8", "replace")[:MAX_BODY_BYTES].decode("utf-8", "ignore").encode()
