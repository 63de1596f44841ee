"""How restore times went, drawn: an SVG that stands in a page, takes its colours from it, and needs nothing else."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.timing import bucket_of
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.eta import seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tasks.backups.drills.records import Drill

WIDTH: Final = 640
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 14, 12, 28
_ROOM_ABOVE: Final = 1.1
"""The highest value leaves a tenth of the height free."""
_COLOURS: Final = 4
_WHOLE_SECONDS_FROM: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One restore in the picture."""

    at: datetime
    seconds: float
    says: str
    """What a pointer on it shows."""


def readings_by_depth(drills: Iterable[Drill]) -> dict[str, list[Reading]]:
    """Sort measured restores into lines, one for each depth of chains, each from its oldest to its newest."""
    lines: defaultdict[int, list[Reading]] = defaultdict(list)
    names: dict[int, str] = {}
    for drill in sorted(drills, key=lambda one: one.finished_at):
        if drill.verdict is not Verdict.PASS or drill.way == "disaster" or drill.timing is None:
            continue
        bucket, rto_s = bucket_of(drill), drill.timing.rto_s
        names[bucket.depth] = bucket.depth_text
        says = f"{drill.finished_at:%Y-%m-%d %H:%M}Z: {rto_s:.1f} s, {drill.point_id}"
        lines[bucket.depth].append(Reading(at=drill.finished_at, seconds=rto_s, says=says))
    return {names[depth]: lines[depth] for depth in sorted(lines)}


def trend(lines: Mapping[str, Sequence[Reading]], *, target_s: float | None = None) -> str:
    """Draw lines over time; empty where there is nothing to draw.

    The target is drawn where it lies in the picture: it stands in words elsewhere, and would flatten everything.
    """
    readings = [reading for line in lines.values() for reading in line]
    if not readings:
        return ""
    frame = _Frame.around(readings)
    marks = [_axes(frame)]
    if target_s is not None and target_s <= frame.highest_s:
        y = frame.y(target_s)
        marks.append(f'<line class="target" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    marks += [_line(frame, line, number) for number, line in enumerate(lines.values())]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="restore times">'
        f"<title>Restore times, in seconds, from request to validated</title>{''.join(marks)}</svg>"
    )


def legend(lines: Mapping[str, Sequence[Reading]]) -> str:
    """Say which line is which."""
    items = (
        f'<li><span class="key line{number % _COLOURS}"></span>{html_text(name)} ({len(line)})</li>'
        for number, (name, line) in enumerate(lines.items())
    )
    return f'<ul class="legend">{"".join(items)}</ul>' if lines else ""


def html_text(text: str) -> str:
    """Escape a text, and spell out the signs in it that no page can show."""
    return escape("".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where a moment and a duration lie in the picture."""

    first: datetime
    span_s: float
    highest_s: float

    @classmethod
    def around(cls, readings: Sequence[Reading]) -> _Frame:
        first, last = min(one.at for one in readings), max(one.at for one in readings)
        highest_s = max(one.seconds for one in readings) * _ROOM_ABOVE
        return cls(first=first, span_s=(last - first).total_seconds(), highest_s=highest_s or 1.0)

    def x(self, at: datetime) -> float:
        share = (at - self.first).total_seconds() / self.span_s if self.span_s else 0.5
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, seconds: float) -> float:
        return HEIGHT - _BOTTOM - seconds / self.highest_s * (HEIGHT - _TOP - _BOTTOM)


def _axes(frame: _Frame) -> str:
    steps = (0.0, frame.highest_s / 2, frame.highest_s)
    rows = (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{frame.y(step):.1f}" y2="{frame.y(step):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{frame.y(step) + 4:.1f}" text-anchor="end">{_label(step)}</text>'
        for step in steps
    )
    return "".join([*rows, *_dates(frame)])


def _dates(frame: _Frame) -> Iterator[str]:
    y, last = HEIGHT - 8, frame.first + timedelta(seconds=frame.span_s)
    yield f'<text x="{_LEFT}" y="{y}">{frame.first:%Y-%m-%d}</text>'
    if last.date() != frame.first.date():
        yield f'<text x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">{last:%Y-%m-%d}</text>'


def _label(seconds: float) -> str:
    if seconds == 0:
        return "0"
    return f"{seconds:.1f} s" if seconds < _WHOLE_SECONDS_FROM else seconds_text(seconds)


def _line(frame: _Frame, line: Sequence[Reading], number: int) -> str:
    places = [(frame.x(one.at), frame.y(one.seconds), one) for one in line]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{html_text(one.says)}</title></circle>' for x, y, one in places
    )
    return f'<g class="line{number % _COLOURS}"><polyline points="{path}"/>{dots}</g>'
