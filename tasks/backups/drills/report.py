"""One page that says how restores stand: for a board, an auditor, or whoever is on duty.

It is one file of HTML without scripts and without anything from elsewhere; it follows the colours of the reader's
machine, prints on paper, and fits a phone. All text in it is escaped: names of tables come from restored data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.backups.choosing import newest_first
from tasks.backups.drills.charts import html_text, legend, readings_by_depth, trend
from tasks.backups.drills.timing import restore_times
from tasks.backups.drills.verdicts import ARTEFACTS, kill_table
from tasks.backups.eta import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from tasks.backups.drills.coverage import Coverage, Reachable
    from tasks.backups.drills.records import Drill, Timing
    from tasks.backups.drills.timing import Prediction, Spread
    from tasks.backups.drills.verdicts import Artefact, Check
    from tasks.backups.points import RestorePoint

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--rule:#d0d7de;--good:#1a7f37;--bad:#cf222e;--odd:#9a6700;
--a:#0969da;--b:#8250df;--c:#bc4c00;--d:#1a7f37}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--rule:#3d444d;--good:#3fb950;--bad:#f85149;
--odd:#d29922;--a:#58a6ff;--b:#bc8cff;--c:#ffa657;--d:#3fb950}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--rule)}
.headline{font-size:1.2rem}.dim{color:var(--dim)}.pass,.equal{color:var(--good)}.fail,.differs,.damaged{color:var(--bad)}
.inconclusive,.unable,.nothing,.suspect{color:var(--odd)}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem .25rem 0;vertical-align:top}
td{border-top:1px solid var(--rule);overflow-wrap:anywhere}td.number,th.number{text-align:right;white-space:nowrap}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--dim)}.grid{stroke:var(--rule)}
.target{stroke:var(--bad);stroke-dasharray:4}polyline{fill:none;stroke-width:2;stroke:currentColor}
circle{fill:currentColor}.line0{color:var(--a)}.line1{color:var(--b)}.line2{color:var(--c)}.line3{color:var(--d)}
.legend{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}
.key{display:inline-block;width:1em;height:.2em;margin:0 .4em .25em 0;background:currentColor}
@media print{body{font-size:11px;max-width:none;padding:0}h2,tr,svg{break-inside:avoid}.wide{overflow:visible}}
"""

_MOST_DIFFERENCES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page says."""

    made_at: datetime
    coverage: Coverage
    reachable: Reachable | None
    prediction: Prediction | None
    overdue: str
    drills: Sequence[Drill]
    """All that are known, the newest first."""
    points: Sequence[RestorePoint]
    """All that are kept."""


def render(page: Page) -> str:
    """Give the page as HTML."""
    newest = page.drills[0] if page.drills else None
    sections = [
        _headline(page),
        *([] if newest is None else [_verdict(newest), _artefacts(newest), _mutants(newest), _timeline(newest)]),
        _times(page),
        _points(page.points),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Restore tests, {page.made_at:%Y-%m-%d}</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>Restore tests</h1>\n{''.join(sections)}"
        f'<p class="dim">As of {_moment(page.made_at)}, by nightcrew drill --report</p></body></html>\n'
    )


def _headline(page: Page) -> str:
    reach = "Nothing is proven to restore yet." if page.reachable is None else f"{_capital(str(page.reachable))}."
    lines = [
        f'<p class="headline">{html_text(reach)}</p>',
        f'<p class="coverage">Proven: {html_text(str(page.coverage))}.</p>',
    ]
    if (oldest := page.coverage.oldest_unproven) is not None:
        lines.append(f"<p>The oldest that is not: {html_text(oldest.point_id)} of {_moment(oldest.taken_at)}.</p>")
    if page.overdue:
        lines.append(f'<p class="fail">Overdue: {html_text(page.overdue)}.</p>')
    return "".join(lines)


def _verdict(drill: Drill) -> str:
    point, verdict = html_text(drill.point_id or "no point"), drill.verdict.value
    timing = "" if drill.timing is None else f"<p>{_split(drill.timing)}</p>"
    rpo = "" if drill.rpo_s is None else f"<p>RPO {drill.rpo_s:.1f} s: so old was the newest commit at the capture.</p>"
    return (
        f"<h2>The last drill</h2><p>{_moment(drill.finished_at)}, {html_text(drill.way)}, {point}"
        f' ({html_text(drill.chosen_because or "asked for")}): <strong class="{verdict}">{verdict}'
        f"</strong>, {html_text(drill.reason)}</p>{timing}{rpo}"
    )


def _artefacts(drill: Drill) -> str:
    by_artefact: dict[Artefact, list[Check]] = {
        one: [check for check in drill.checks if check.artefact == one] for one in ARTEFACTS
    }
    rows = [
        (
            html_text(artefact),
            html_text(check.name),
            _outcome(check),
            _number(f"{check.examined:,} {check.unit}"),
            _why(check),
        )
        for artefact, checks in by_artefact.items()
        for check in checks
    ]
    return _section("What was compared", ("artefact", "check", "outcome", "#looked at", "why"), rows, name="checks")


def _outcome(check: Check) -> str:
    if check.outcome == "nothing to compare":
        return f'<span class="nothing">0 {html_text(check.unit)}: nothing to compare</span>'
    return f'<span class="{check.outcome}">{check.outcome}</span>'


def _why(check: Check) -> str:
    more = len(check.differences) - _MOST_DIFFERENCES
    shown = [*check.differences[:_MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
    return "<br>".join(html_text(one) for one in shown) or html_text(check.unable)


def _mutants(drill: Drill) -> str:
    rows = []
    for artefact, rate in kill_table(drill.mutants).items():
        impossible = sum(bool(one.not_possible) for one in drill.mutants if one.artefact == artefact)
        survivors = ", ".join(rate.survivors)
        rows.append((html_text(artefact), _number(str(rate)), _number(str(impossible)), html_text(survivors)))
    columns = ("artefact", "#rejected", "#not possible", "went unnoticed")
    return _section("Damaged copies that were rejected", columns, rows, name="mutants")


def _timeline(drill: Drill) -> str:
    rows = [(f"{moment.at:%H:%M:%S}Z", html_text(moment.says)) for moment in drill.timeline]
    return _section(f"Timeline of {drill.asked_at:%Y-%m-%d}", ("at", "what"), rows, name="timeline")


def _times(page: Page) -> str:
    lines = readings_by_depth(page.drills)
    foreseen = page.prediction
    target_s = None if foreseen is None else foreseen.target_s
    rows = [
        (
            html_text(times.bucket.size_text),
            html_text(times.bucket.depth_text),
            _number(str(times.restores)),
            *(_number(_spread(one)) for one in (times.fetch, times.apply, times.validate, times.total)),
        )
        for times in restore_times(page.drills)
    ]
    columns = ("size", "depth", "#restores", "#fetch", "#apply", "#validate", "#total")
    said = ""
    if foreseen is not None:
        level = "fail" if foreseen.is_over else "dim"
        said = (
            f'<p class="{level}">A restore of the newest point would take {seconds_text(foreseen.seconds)}; '
            f"the target is {seconds_text(foreseen.target_s)} ({html_text(foreseen.basis)}).</p>"
        )
    table = _table(columns, rows, name="times") if rows else '<p class="dim">No restore was measured yet.</p>'
    caption = '<p class="dim">Seconds: the median, and what 95 of 100 stay within.</p>' if rows else ""
    return f"<h2>How long a restore takes</h2>{said}{trend(lines, target_s=target_s)}{legend(lines)}{table}{caption}"


def _points(points: Sequence[RestorePoint]) -> str:
    rows = [
        (
            html_text(point.id),
            _moment(point.taken_at),
            html_text(point.profile),
            html_text(point.kind),
            _number(str(point.sequence)),
            _number(bytes_text(point.size_bytes)),
            f'<span class="{point.state.value}">{point.state.value}</span>',
            "never" if point.proven_at is None else _moment(point.proven_at),
        )
        for point in newest_first(points)
    ]
    columns = ("point", "taken", "profile", "kind", "#deltas", "#size", "state", "proven")
    return _section(f"Points that are kept ({len(points)})", columns, rows, name="points")


def _section(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, name: str) -> str:
    body = _table(columns, rows, name=name) if rows else '<p class="dim">None.</p>'
    return f"<h2>{html_text(heading)}</h2>{body}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, name: str) -> str:
    """Give a table of cells that are HTML already; a `#` before a column's name puts it to the right."""
    head = "".join(
        f'<th class="number">{column[1:]}</th>' if column.startswith("#") else f"<th>{column}</th>"
        for column in columns
    )
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table id="{name}"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(html: str) -> str:
    return html if html.startswith("<td") else f"<td>{html}</td>"


def _number(text: str) -> str:
    return f'<td class="number">{html_text(text)}</td>'


def _split(timing: Timing) -> str:
    parts = f"fetch {timing.fetch_s:.1f} s, apply {timing.apply_s:.1f} s, validate {timing.validate_s:.1f} s"
    return f"RTO {timing.rto_s:.1f} s: {parts}."


def _spread(spread: Spread) -> str:
    return f"{spread.p50_s:.1f} / {spread.p95_s:.1f}"


def _moment(at: datetime) -> str:
    return f'<time datetime="{at.isoformat()}">{at:%Y-%m-%d %H:%M}Z</time>'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
