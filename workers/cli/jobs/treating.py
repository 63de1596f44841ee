"""Show first, ask, then do: how a verb changes the jobs that a filter finds."""

import getpass
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import typer

from workers.cli.jobs.listing import shortened
from workers.cli.jobs.options import Terms
from workers.cli.output import CliError, ExitCode, console, print_error, print_json, print_line, print_table

if TYPE_CHECKING:
    from tasks.ledger.treatments import Treatment

Treating = Callable[[Sequence[str]], "Iterator[list[Treatment]]"]

_ROWS_SHOWN = 50
_MANY = 500
_DONE = {
    "retry": "queued again",
    "cancel": "cancelled",
    "request": "asked to stop",
    "wait": "asked to stop before",
    "refuse": "refused",
}
_PLANNED = {
    "retry": "would be queued again",
    "cancel": "would be cancelled",
    "request": "would be asked to stop",
    "wait": "asked to stop before",
    "refuse": "would be refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done to jobs, and what is shown of it."""

    verb: str
    """As it is typed."""
    plan: Treating
    act: Treating
    terms: Terms
    json: bool


def carry_out(order: Order, run_ids: Sequence[str], *, meant: str) -> "list[Treatment]":
    """Do to the jobs what is ordered, or only show it; give what was done, nothing after a dry run.

    Raises:
        CliError: nobody agreed to it.
    """
    if not run_ids:
        _present(order, [])
        if not order.json:
            print_line(f"no job matches: {meant}")
        return []
    if order.terms.dry_run:
        _present(order, list(chain.from_iterable(order.plan(run_ids))))
        return []
    if not order.terms.yes:
        _ask(order, run_ids)
    return list(_with_bar(order.act(run_ids), total=len(run_ids)))


def tell(order: Order, treatments: "Sequence[Treatment]") -> ExitCode:
    """Print what was done, and say how it went."""
    if treatments:
        _present(order, treatments)
    problems = sorted({one.problem for one in treatments if one.problem})
    for problem in problems:
        print_error(problem, hint="the next reconcile makes up for it, within a minute: nightcrew status")
    if problems:
        return ExitCode.BROKER_UNREACHABLE
    return ExitCode.FAILED if any(one.action == "refuse" for one in treatments) else ExitCode.OK


def check_presence(verb: str, what: str) -> None:
    """Go on only where somebody can be asked.

    Raises:
        CliError: nobody sits at a terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        msg = f"it is about {what}, and nobody can be asked here"
        hint = f"look first with: nightcrew jobs {verb} … --dry-run; then give --yes instead"
        raise CliError(msg, hint=hint, code=ExitCode.USAGE)


def operator() -> str:
    """Name who runs this command, and where."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"user {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _present(order: Order, treatments: "Sequence[Treatment]") -> None:
    counts = Counter(one.action for one in treatments)
    if order.json:
        rows = [one.to_json() for one in treatments]
        print_json({"dry_run": order.terms.dry_run, "jobs": rows, "counts": dict(counts)})
    elif treatments:
        _print_treatments(treatments, _PLANNED if order.terms.dry_run else _DONE)


def _print_treatments(treatments: "Sequence[Treatment]", words: dict[str, str]) -> None:
    # What did not go as ordered comes first: of many rows only these are read.
    ordered = sorted(treatments, key=lambda one: (one.action != "refuse", one.problem is None))
    rows = [(one.id, one.kind, one.state, words[one.action], shortened(one.reason)) for one in ordered]
    print_table(("id", "kind", "state", "", "reason"), rows[:_ROWS_SHOWN])
    if len(rows) > _ROWS_SHOWN:
        print_line(f"… and {len(rows) - _ROWS_SHOWN:,} more (--json lists them all)")
    counts = Counter(words[one.action] for one in treatments)
    print_line("; ".join(f"{count:,} {word}" for word, count in counts.most_common()))


def _ask(order: Order, run_ids: Sequence[str]) -> None:
    check_presence(order.verb, f"{len(run_ids):,} jobs")
    counts = Counter(one.action for part in order.plan(run_ids) for one in part)
    summary = "; ".join(f"{count:,} {_PLANNED[action]}" for action, count in counts.most_common())
    if not typer.confirm(f"{len(run_ids):,} jobs: {summary}. Go on?", err=True):
        raise CliError("nothing was done", hint=f"nightcrew jobs {order.verb} … --dry-run shows each of them")


def _with_bar(parts: "Iterable[list[Treatment]]", *, total: int) -> "Iterator[Treatment]":
    """Draw a bar while many are treated; standard output is left to the result."""
    if total <= _MANY or not sys.stderr.isatty():
        yield from chain.from_iterable(parts)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=total)
        for part in parts:
            yield from part
            bars.advance(bar, len(part))
