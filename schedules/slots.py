"""Slot arithmetic: the instants that a crontab expression names, in UTC.

cronsim finds them. It would also read seconds, names and `L`, and in a time zone it copies the way Debian's cron treats
changes of the clock. None of that is let in: in UTC, every expression that `check` passes means the same here, in
cron(8) and in Celery's `crontab`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELD = re.compile(r"(\*|\d+-\d+)(/\d+)?|\d+")
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_LARGEST = (59, 23, 31, 12, 6)
_SECOND = timedelta(seconds=1)
_ANY_START = datetime(2000, 1, 1, tzinfo=UTC)
# More than the slots of one day, so that the gap over midnight is seen; and enough years to see two 29ths of February.
_SLOTS_TO_COMPARE = 1_500
_YEARS_TO_COMPARE = timedelta(days=12 * 366)


def check(cron: str) -> None:
    """Refuse what is not a plain crontab expression.

    Raises:
        ValueError: the text says which field is wrong and why.
    """
    fields = cron.split(" ")
    if len(fields) != len(_FIELDS):
        msg = f"cron {cron!r} has {len(fields)} fields, expected 5: {', '.join(_FIELDS)}"
        raise ValueError(msg)
    for name, largest, field in zip(_FIELDS, _LARGEST, fields, strict=True):
        _check_field(name, largest, field)
    if not (fields[2].startswith("*") or fields[4].startswith("*")):
        msg = f"cron {cron!r} sets both day of the month and day of the week: cron(8) takes either, Celery both"
        raise ValueError(msg)
    try:
        CronSim(cron, _ANY_START)
    except CronSimError as error:
        msg = f"cron {cron!r} names no instant: {error}"
        raise ValueError(msg) from error


def newest(cron: str, instant: datetime) -> datetime:
    """Give the newest slot at or before the instant."""
    whole_second = _utc(instant).replace(microsecond=0)
    return next(CronSim(cron, whole_second + _SECOND, reverse=True))


def following(cron: str, instant: datetime) -> Iterator[datetime]:
    """Give the slots after the instant, without end."""
    return CronSim(cron, _utc(instant))


def between(cron: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Give the slots later than `after` and not later than `until`, in order."""
    last = _utc(until)
    return takewhile(lambda slot: slot <= last, following(cron, after))


@cache
def shortest_period(cron: str) -> timedelta:
    """Give the shortest time between two slots."""
    some = islice(between(cron, _ANY_START, _ANY_START + _YEARS_TO_COMPARE), _SLOTS_TO_COMPARE)
    return min(later - earlier for earlier, later in pairwise(some))


def _check_field(name: str, largest: int, field: str) -> None:
    for part in field.split(","):
        if not _FIELD.fullmatch(part):
            msg = f"{name} {field!r}: write a number, a range, * or a step such as */5 or 10-50/5, joined by commas"
            raise ValueError(msg)
        numbers = [int(number) for number in re.findall(r"\d+", part.partition("/")[0])]
        smallest = 1 if name in {"day of the month", "month"} else 0
        # Also strictly: cronsim reads 0-0/5 like 0-59/5, Celery like 0.
        if not all(earlier < later for earlier, later in pairwise([smallest - 1, *numbers, largest + 1])):
            msg = f"{name} {field!r}: numbers go up from {smallest} to {largest}"
            raise ValueError(msg)
        if part.endswith("/0"):
            msg = f"{name} {field!r}: a step of 0 leads nowhere"
            raise ValueError(msg)


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        msg = f"naive datetime {instant!r}: give it a time zone"
        raise ValueError(msg)
    return instant.astimezone(UTC)
