"""Retentions of whole histories, compared line by line with the files in `data/golden/backups`.

`NIGHTCREW_WRITE_GOLDEN=1 python -m pytest tests/unit/tasks/backups/test_golden_retention.py` writes them anew: read the
difference before you keep it.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.backups.points import PointState
from tasks.backups.retention import decide_retention
from tasks.runtime import RetentionOptions
from tests.unit.tasks.backups.histories import (
    DAY,
    HOUR,
    NOW,
    damaged,
    delta,
    full,
    hourly,
    nightly,
    proven,
    suspect,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.backups.points import RestorePoint
    from tasks.backups.retention import Verdict

GOLDEN = Path(__file__).parents[4] / "data" / "golden" / "backups"
DEFAULT = RetentionOptions()
_ID = re.compile("[0-9a-f]{12}")


def sixty_days_of_hourly_incrementals() -> list[RestorePoint]:
    """Give an incremental each hour, a full after each 24."""
    return hourly(60)


def two_years_of_nightly_with_weekly_fulls() -> list[RestorePoint]:
    """Give an incremental each night, a full each Sunday; each full was proven two days later."""
    return [proven(point) if point.kind == "full" else point for point in nightly(730)]


def forks() -> list[RestorePoint]:
    """Give a week of hourly points where each tenth was stored twice, by a worker that had lost its lease."""
    points = hourly(7)
    twins = [
        replace(point, id=f"f{point.id[1:]}", taken_at=point.taken_at + timedelta(seconds=40))
        for point in points[::10]
        if point.kind != "full"
    ]
    return [*points, *twins]


def suspects() -> list[RestorePoint]:
    """Give a month of nightly points whose last four have hardly any rows."""
    points = nightly(30)
    return [*points[:-4], *map(suspect, points[-4:])]


def holds_and_damages() -> list[RestorePoint]:
    """Give a hundred nightly points: two held, one of a chain damaged, one proven after that."""
    points = nightly(100)
    points[5] = replace(points[5], is_held=True)
    points[40] = replace(points[40], is_held=True)
    points[-12] = damaged(points[-12])
    points[-3] = proven(points[-3])
    return points


def gaps() -> list[RestorePoint]:
    """Give three weeks of nightly points, then none for two months, then five days of them."""
    before = [point for point in nightly(90) if point.taken_at <= NOW - 70 * DAY]
    return [*before, *nightly(5, first_id=100)]


def clocks_that_jumped() -> list[RestorePoint]:
    """Give two weeks of nightly points, among them two that a clock has put into the years 2027 and 2031."""
    points = nightly(14)
    ahead = [full("e00000000001", taken_at=NOW + 40 * DAY), full("e00000000002", taken_at=NOW + 1_500 * DAY)]
    return [*points, *ahead, delta(ahead[0], "e00000000003", taken_at=NOW + 40 * DAY + HOUR)]


HISTORIES = {
    "hourly-60-days": (sixty_days_of_hourly_incrementals, DEFAULT),
    "nightly-2-years": (two_years_of_nightly_with_weekly_fulls, DEFAULT),
    "nightly-2-years-second-vault": (
        two_years_of_nightly_with_weekly_fulls,
        RetentionOptions(daily=0, weekly=2, monthly=24),
    ),
    "forks": (forks, DEFAULT),
    "suspects": (suspects, DEFAULT),
    "holds-and-damages": (holds_and_damages, RetentionOptions(daily=7, weekly=2, monthly=2)),
    "gaps": (gaps, DEFAULT),
    "clocks-that-jumped": (clocks_that_jumped, DEFAULT),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_retention_is_the_golden_one(name: str) -> None:
    """Every point that is kept has its line and its reason; those that go in a row for one reason are one line."""
    history, options = HISTORIES[name]
    points = history()
    verdicts = decide_retention(points, {"default": options}, now=NOW)
    text = "\n".join([*heading(history.__doc__ or "", options, verdicts), *lines(verdicts), ""])
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("NIGHTCREW_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines()


def test_there_is_no_golden_file_without_its_history() -> None:
    """A file that nobody compares says nothing."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(HISTORIES)


def heading(what: str, options: RetentionOptions, verdicts: Sequence[Verdict]) -> Iterator[str]:
    keeping = sum(verdict.keep for verdict in verdicts)
    said = what.removeprefix("Give ")
    yield said[:1].upper() + said[1:]
    yield f"Daily {options.daily}, weekly {options.weekly}, monthly {options.monthly}; now is {NOW:%Y-%m-%d %H:%M} UTC."
    yield f"{keeping} of {len(verdicts)} points are kept."
    yield ""


def lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Write what is kept; those that go in a row for the same reason are one line, with the ids of the first."""
    for _, group in groupby(verdicts, key=lambda verdict: verdict.keep or _ID.sub("", verdict.reason)):
        row = list(group)
        first, last = row[0].point, row[-1].point
        if row[0].keep:
            yield from (f"keep {shown(verdict.point)}  {verdict.reason}" for verdict in row)
        else:
            to = f" … {last.taken_at:%Y-%m-%d %H:%M} {last.id}" if len(row) > 1 else ""
            yield f"  go {len(row)}: {first.taken_at:%Y-%m-%d %H:%M} {first.id}{to}  {row[0].reason}"


def shown(point: RestorePoint) -> str:
    state = "" if point.state is PointState.STORED else f" {point.state.value}"
    return f"{point.taken_at:%Y-%m-%d %H:%M} {point.id} {point.kind:<11}{state}"
