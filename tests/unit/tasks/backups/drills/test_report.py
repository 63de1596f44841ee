"""The page that says how restores stand: well-formed, exact, and safe whatever the names are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from tasks.backups.drills.charts import HEIGHT, WIDTH, readings_by_depth, trend
from tasks.backups.drills.coverage import coverage, reachable
from tasks.backups.drills.report import Page, render
from tasks.backups.drills.timing import predict_newest
from tasks.backups.drills.verdicts import Check, MutantResult, Verdict
from tests.unit.tasks.backups.drills.drilled import CHECKS, MUTANTS, POINT, drill
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW, damaged, delta, full

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.drills.records import Drill
    from tasks.backups.points import RestorePoint

_EMPTY = {"meta", "br", "line", "polyline"}
HOSTILE = "<script>alert('x')</script>\" onload=\"x & \x1b[2J\u202e"
OLD = full(POINT, taken_at=NOW - 5 * DAY, proven_at=NOW)
POINTS = [OLD, delta(OLD, "bbbbbbbbbbbb"), damaged(full("cccccccccccc", taken_at=NOW - DAY))]


@dataclass
class Reading(HTMLParser):
    """Reads the page: its tables by id, its text, and whether every tag is closed in its turn."""

    opened: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    text: str = ""
    _table: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in _EMPTY:
            self.opened.append(tag)
        if tag == "table":
            self._table = str(dict(attrs)["id"])
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in {"td", "th"}:
            self.tables[self._table][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, text: str, /) -> None:
        if "style" in self.opened:
            return
        self.text += text
        if {"td", "th"} & set(self.opened):
            self.tables[self._table][-1][-1] += text


def page(drills: Sequence[Drill] = (), points: Sequence[RestorePoint] = (), **values: Any) -> Page:
    facts = {
        "made_at": NOW,
        "coverage": coverage(points, now=NOW),
        "reachable": reachable(points, drills, profile="default"),
        "prediction": predict_newest(points, drills, profile="default", target=timedelta(minutes=15)),
        "overdue": "",
        **values,
    }
    return Page(drills=drills, points=points, **facts)


def read(shown: Page) -> Reading:
    reading = Reading()
    reading.feed(render(shown))
    reading.close()
    assert reading.opened == []
    return reading


def test_every_figure_is_that_of_the_drills() -> None:
    """Headline, coverage, checks, mutants, times and points, each as it was found."""
    found = read(page([drill(12.0), drill(8.0, finished_at=NOW - DAY)], POINTS))
    assert "You could restore to 2026-11-18 04:00Z (proven 2026-11-23 04:00Z, RTO 12 s)." in found.text
    assert "Proven: 33 % of 3 points in the last 30 days." in found.text
    assert "RTO 12.0 s: fetch 1.2 s, apply 3.6 s, validate 7.2 s." in found.text
    assert "RPO 4.5 s" in found.text
    assert found.tables["checks"][1:] == [
        ["sqlite", "sqlite.content", "equal", "12,345 rows", ""],
        ["redis", "redis.broker.keys", "0 keys: nothing to compare", "0 keys", ""],
        ["files", "files.config", "equal", "2 files", ""],
    ]
    assert found.tables["mutants"][1:] == [
        ["sqlite", "2/2", "0", ""],
        ["redis", "0/0", "1", ""],
        ["files", "1/1", "0", ""],
    ]
    assert found.tables["timeline"][1:] == [["03:58:30Z", "chosen"], ["04:00:00Z", "pass"]]
    assert found.tables["times"][1:] == [
        ["up to 100 MB", "no deltas", "2", "0.8 / 1.2", "2.4 / 3.6", "4.8 / 7.2", "8.0 / 12.0"]
    ]
    assert [row[0] for row in found.tables["points"][1:]] == ["cccccccccccc", "bbbbbbbbbbbb", POINT]
    assert [row[-2:] for row in found.tables["points"][1:]] == [
        ["damaged", "never"],
        ["stored", "never"],
        ["stored", "2026-11-23 04:00Z"],
    ]


def test_what_differs_and_what_survived_is_named() -> None:
    """The first differences, how many more there are, and the mutants that nobody noticed."""
    differing = replace(CHECKS[0], differences=[f"row {number}" for number in range(7)])
    unable = Check(name="model.load", artefact="model", examined=0, unit="files", unable="no interpreter")
    survivor = MutantResult(name="sqlite.flip", artefact="sqlite")
    failed = drill(12.0, verdict=Verdict.FAIL, checks=[differing, unable], mutants=[*MUTANTS, survivor])
    found = read(page([failed], POINTS, overdue="nothing was proven since 2026-01-01"))
    assert found.tables["checks"][1:] == [
        ["sqlite", "sqlite.content", "differs", "12,345 rows", "row 0row 1row 2row 3row 4and 2 more"],
        ["model", "model.load", "unable", "0 files", "no interpreter"],
    ]
    assert ["sqlite", "2/3", "0", "sqlite.flip"] in found.tables["mutants"]
    assert "Overdue: nothing was proven since 2026-01-01." in found.text
    assert "No restore was measured yet." in found.text


def test_hostile_names_stay_text() -> None:
    """Whatever stands in a restored database, it opens no tag, sets no attribute and steers nothing."""
    hostile = drill(
        12.0,
        point_id=HOSTILE,
        reason=HOSTILE,
        chosen_because=HOSTILE,
        checks=[Check(name=HOSTILE, artefact="sqlite", examined=1, unit=HOSTILE, differences=[HOSTILE])],
        mutants=[MutantResult(name=HOSTILE, artefact="sqlite")],
        timeline=[replace(drill().timeline[0], says=HOSTILE)],
    )
    shown = page([hostile], [full(HOSTILE, profile=HOSTILE, proven_at=NOW)], overdue=HOSTILE)
    found, kind = read(shown), read(page([drill()], POINTS))
    assert set(found.tags) <= {*kind.tags, "strong"}
    assert set(found.attributes) == set(kind.attributes)
    assert not {"script", "onload"} & {*found.tags, *found.attributes}
    assert "<script>alert('x')</script>" in found.text
    assert "\x1b" not in render(shown)
    assert "\u202e" not in render(shown)


def test_it_needs_nothing_from_elsewhere() -> None:
    """No script, no address, and colours for day and night."""
    html = render(page([drill()], POINTS))
    assert not any(word in html for word in ("http", "src=", "url(", "@import", "<script", "<link"))
    assert "prefers-color-scheme:dark" in html
    assert "@media print" in html


def test_an_empty_page_says_so() -> None:
    """A crew that has neither points nor drills."""
    found = read(page())
    assert "Nothing is proven to restore yet." in found.text
    assert "Proven: no points yet." in found.text
    assert found.tables == {}


def test_the_trend_draws_each_restore_where_it_belongs() -> None:
    """A line for each depth; later is more to the right, longer is higher, nothing leaves the picture."""
    drills = [
        drill(10.0, finished_at=NOW - 2 * DAY),
        drill(20.0, finished_at=NOW - DAY),
        drill(40.0, finished_at=NOW, sequence=5),
        drill(99.0, verdict=Verdict.FAIL),
        drill(None, finished_at=NOW - HOUR),
    ]
    lines = readings_by_depth(drills)
    assert [(name, [one.seconds for one in line]) for name, line in lines.items()] == [
        ("no deltas", [10.0, 20.0]),
        ("4 to 9 deltas", [40.0]),
    ]
    circles = ET.fromstring(trend(lines, target_s=900)).findall(".//circle")  # noqa: S314  our own
    places = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in circles]
    (x1, y1), (x2, y2), (x3, y3) = places
    assert 0 < x1 < x2 < x3 < WIDTH
    assert HEIGHT > y1 > y2 > y3 > 0
    assert (y1 - y2) * 2 == pytest.approx(y2 - y3, abs=0.3)
    assert trend({}) == ""
    assert "target" not in trend(lines, target_s=900)
    assert 'class="target"' in trend(lines, target_s=30)
