"""`nightcrew jobs dead`: messages and log entries that nobody could read."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.context import open_crew
from workers.cli.jobs.listing import shortened
from workers.cli.jobs.options import Terms, bundled, with_terms
from workers.cli.jobs.refusals import refusals
from workers.cli.jobs.showing import print_fields
from workers.cli.jobs.treating import check_presence
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.ledger.operations import LetterTreatment
    from tasks.runtime import Runtime

_LISTED = 50
_ROWS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which letters are meant."""

    source: str | None
    kind: str | None
    reason: str | None


def _choice(flag: str, what: str) -> Any:
    return Annotated[str | None, typer.Option(flag, help=what, show_default=False, rich_help_panel="Which letters")]


_with_choice = bundled(
    "chosen",
    {
        "source": (_choice("--source", "From this queue or stream."), None),
        "kind": (_choice("--kind", "Of this kind."), None),
        "reason": (_choice("--reason", "Whose reason contains this."), None),
    },
    Chosen,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """Which letters are tried again, and how."""

    number: int | None
    everything: bool
    vouch: bool


_with_retrying = bundled(
    "retrying",
    {
        "retry": (
            Annotated[int | None, typer.Option("--retry", metavar="N", help="Try one of them again.")],
            None,
        ),
        "retry_all": (Annotated[bool, typer.Option("--retry-all", help="Try all of them again.")], False),
        "vouch": (
            Annotated[bool, typer.Option("--vouch", help="Sign them also where their signature is missing or wrong.")],
            False,
        ),
    },
    lambda *, retry, retry_all, vouch: Retrying(number=retry, everything=retry_all, vouch=vouch),
)


@_with_choice
@_with_retrying
@with_terms
def dead(
    chosen: Chosen,
    retrying: Retrying,
    terms: Terms,
    show_number: Annotated[int | None, typer.Option("--show", metavar="N", help="Show one of them whole.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="List also those that were tried again.")] = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """List messages and log entries that nobody could read, the last received first; show one, or try them again.

    Exit code: 0 all were tried again, or none was found; 1 one was refused.

    JSON: {"dead_letters": [{"id", "source", "source_id", "kind", "job_id", "reason", "body", "received_at",
    "retried_at"}]}; with --show and --retry {"dead_letter": {…}}; with --retry-all and --dry-run {"dry_run",
    "dead_letters": [{"id", "source", "kind", "accepted", "reason"}]}
    """
    one = retrying.number if show_number is None else show_number
    if sum((show_number is not None, retrying.number is not None, retrying.everything)) > 1:
        raise CliError("--show, --retry and --retry-all do not go together", code=ExitCode.USAGE)
    with open_crew(data_dir) as crew, refusals(hint="nightcrew jobs dead --all"):
        if retrying.everything or (terms.dry_run and retrying.number is not None):
            return _retry_many(crew.runtime, chosen, retrying, terms, json=json)
        if one is None:
            _list(crew.runtime, chosen, terms.limit or _LISTED, everything=everything, json=json)
        else:
            again = show_number is None
            _show_or_retry(crew.runtime, one, again=again, vouch=retrying.vouch, json=json)
    return ExitCode.OK


def _list(runtime: "Runtime", chosen: Chosen, limit: int, *, everything: bool, json: bool) -> None:
    from tasks.ledger.operations import list_dead_letters

    letters = list_dead_letters(runtime, _filter(chosen), include_retried=everything, limit=limit)
    if json:
        print_json({"dead_letters": [letter.to_json() for letter in letters]})
        return
    cells = [
        (letter.id, letter.received_at, letter.source, letter.kind, shortened(letter.reason), letter.retried_at)
        for letter in letters
    ]
    print_table(("number", "received", "source", "kind", "reason", "tried again"), cells)


def _show_or_retry(runtime: "Runtime", number: int, *, again: bool, vouch: bool, json: bool) -> None:
    from tasks.ledger.operations import find_dead_letter, retry_dead_letter

    found = retry_dead_letter(runtime, number, vouch=vouch) if again else find_dead_letter(runtime, number)
    letter = found.to_json()
    if json:
        print_json({"dead_letter": letter})
    elif again:
        print_line(f"{number} is on its way again: {letter['source']}")
    else:
        print_fields(letter)


def _retry_many(runtime: "Runtime", chosen: Chosen, retrying: Retrying, terms: Terms, *, json: bool) -> ExitCode:
    from tasks.ledger.operations import plan_letters, retry_dead_letters, select_dead_letters

    number, vouch = retrying.number, retrying.vouch
    numbers = [number] if number is not None else select_dead_letters(runtime, _filter(chosen), limit=terms.limit)
    if not terms.dry_run and numbers and not terms.yes:
        _ask(list(plan_letters(runtime, numbers, vouch=vouch)))
    treat = plan_letters if terms.dry_run else retry_dead_letters
    treated = list(treat(runtime, numbers, vouch=vouch))
    if json:
        print_json({"dry_run": terms.dry_run, "dead_letters": [one.to_json() for one in treated]})
    else:
        _print_treated(treated, dry_run=terms.dry_run)
    return ExitCode.OK if terms.dry_run or all(one.accepted for one in treated) else ExitCode.FAILED


def _ask(planned: "Sequence[LetterTreatment]") -> None:
    check_presence("dead --retry-all", f"{len(planned):,} dead letters")
    accepted = sum(one.accepted for one in planned)
    question = f"{accepted:,} would be tried again, {len(planned) - accepted:,} refused. Go on?"
    if not typer.confirm(question, err=True):
        raise CliError("nothing was done", hint="nightcrew jobs dead --retry-all … --dry-run shows each of them")


def _print_treated(treated: "Sequence[LetterTreatment]", *, dry_run: bool) -> None:
    if not treated:
        print_line("no dead letter matches")
        return
    words = {True: "would be tried again" if dry_run else "tried again", False: "refused"}
    ordered = sorted(treated, key=lambda one: one.accepted)  # of many rows only the first are read
    rows = [(one.id, one.source, one.kind, words[one.accepted], shortened(one.reason)) for one in ordered]
    print_table(("number", "source", "kind", "", "reason"), rows[:_ROWS_SHOWN])
    counts = Counter(words[one.accepted] for one in treated)
    print_line("; ".join(f"{count:,} {word}" for word, count in counts.most_common()))


def _filter(chosen: Chosen) -> Any:
    from tasks.ledger.filters import LetterFilter

    return LetterFilter(source=chosen.source, kind=chosen.kind, reason=chosen.reason)
