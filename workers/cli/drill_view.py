"""What the command shows of restore tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from workers.cli.output import print_error, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.backups.drills.records import Drill
    from tasks.backups.drills.verdicts import Check

_MOST_SHOWN: Final = 20
_PARTS: Final = ("fetch", "apply", "validate", "total")


def drill_text(drill: Mapping[str, Any]) -> str:
    """Say in a line how a drill ended, given as JSON."""
    on = str(drill["finished_at"])[:16].replace("T", " ")
    way = "" if drill["way"] == "warm" else f", {drill['way']}"
    return f"{drill['verdict']} on {on}Z of {drill['point'] or 'no point'}{way}: {drill['reason']}"


def print_drill(drill: Drill) -> None:
    """Print what a drill has found: its checks, its mutants, how long it took, and when what happened."""
    print_line(drill_text(drill.to_json()))
    if drill.chosen_because:
        print_line(f"why this one: {drill.chosen_because}")
    if drill.checks:
        print_line("")
        rows = [(check.name, _outcome(check), check.examined, check.unit, _why(check)) for check in drill.checks]
        print_table(("check", "outcome", "looked at", "of", "why"), rows)
    _print_mutants(drill)
    _print_times(drill)
    print_line("")
    print_table(
        ("after (s)", "what"),
        [(round((moment.at - drill.asked_at).total_seconds(), 1), moment.says) for moment in drill.timeline],
    )


def tell_verdict(drill: Drill) -> None:
    """Say on standard error what to do, where a drill did not pass."""
    from tasks.backups.drills.verdicts import Verdict

    if drill.way == "disaster" and drill.verdict is Verdict.FAIL:
        hint = "see the timeline; ops/runbooks has the way by hand"
        print_error(f"the disaster was not survived whole: {drill.reason}", hint=hint)
    elif drill.verdict is Verdict.FAIL:
        hint = "nightcrew backup full && nightcrew backup list   # then backup verify --slices 1"
        print_error(f"point {drill.point_id} is damaged: {drill.reason}", hint=hint)
    elif drill.verdict is Verdict.INCONCLUSIVE:
        print_error(
            f"nothing was found out: {drill.reason}", hint="mend what it names, and drill again; nothing is proven"
        )


def print_past(document: Mapping[str, Any]) -> None:
    """Print past drills, and how long restores took."""
    drills = document["drills"]
    rows = [_row(drill) for drill in drills[:_MOST_SHOWN]]
    print_table(("ended (UTC)", "point", "way", "verdict", "rejected", "RTO (s)", "RPO (s)", "reason"), rows)
    if not rows:
        print_line("no drill yet; do one with: nightcrew drill")
    if len(drills) > len(rows):
        print_line(f"… and {len(drills) - len(rows)} older ones; --json lists them all")
    if document["times"]:
        print_line("")
        columns = ("size", "depth", "restores", *(f"{part} p50/p95 (s)" for part in _PARTS))
        print_table(columns, [_times(times) for times in document["times"]])
    print_line("")
    print_line(f"proven: {document['proven']['says']}")
    if predicted := document["predicted_rto"]:
        over = ": OVER IT" if predicted["is_over"] else ""
        print_line(
            f"a restore of the newest point would take {predicted['seconds']:.1f} s, the target is "
            f"{predicted['target_s']:.0f} s{over} ({predicted['basis']})"
        )


def _outcome(check: Check) -> str:
    return f"0 {check.unit}: nothing to compare" if check.outcome == "nothing to compare" else check.outcome


def _why(check: Check) -> str:
    return "; ".join(check.differences) or check.unable


def _print_mutants(drill: Drill) -> None:
    from tasks.backups.drills.verdicts import kill_rate, kill_table

    if not drill.mutants:
        return
    print_line("")
    rows: list[tuple[object, ...]] = []
    for artefact, rate in kill_table(drill.mutants).items():
        impossible = sum(bool(one.not_possible) for one in drill.mutants if one.artefact == artefact)
        rows.append((artefact, str(rate), impossible, ", ".join(rate.survivors)))
    whole = kill_rate(drill.mutants)
    impossible = sum(bool(one.not_possible) for one in drill.mutants)
    rows.append(("all", str(whole), impossible, ", ".join(whole.survivors)))
    print_table(("damaged", "rejected", "not possible", "went unnoticed"), rows)


def _print_times(drill: Drill) -> None:
    if (timing := drill.timing) is None:
        return
    parts = f"fetch {timing.fetch_s:.1f} s, apply {timing.apply_s:.1f} s, validate {timing.validate_s:.1f} s"
    rpo = "" if drill.rpo_s is None else f"; RPO {drill.rpo_s:.1f} s"
    print_line("")
    print_line(f"RTO {timing.rto_s:.1f} s: {parts}{rpo}")


def _row(drill: Mapping[str, Any]) -> tuple[object, ...]:
    ended, mutants = str(drill["finished_at"])[:16].replace("T", " "), drill["mutants"]
    killed = f"{mutants['killed']}/{mutants['total']}"
    return (
        *(ended, drill["point"], drill["way"], drill["verdict"], killed),
        *(_rounded(drill[name]) for name in ("rto_s", "rpo_s")),
        drill["reason"],
    )


def _times(times: Mapping[str, Any]) -> tuple[object, ...]:
    spreads = (f"{times[part]['p50_s']:.1f} / {times[part]['p95_s']:.1f}" for part in _PARTS)
    return (times["size"], times["depth"], times["restores"], *spreads)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
