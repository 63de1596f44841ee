"""Options that several verbs of jobs share, given to a command as one value each."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.output import CliError, ExitCode

if TYPE_CHECKING:
    from tasks.ledger.filters import Filter

JobId = Annotated[str, typer.Argument(metavar="ID", help="Its id, or a beginning of it that no other job has.")]
OneJob = Annotated[str | None, typer.Argument(metavar="[ID]", help="One job, instead of a filter.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms many jobs are changed."""

    limit: int | None = None
    dry_run: bool = False
    yes: bool = False


def bundled(
    name: str, options: Mapping[str, tuple[Any, object]], make: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add options, each an annotation and a default, to a command; it gets what `make` makes of them as `name`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def read_and_call(**arguments: Any) -> Any:
            given = {option: arguments.pop(option) for option in options}
            return command(**arguments, **{name: make(**given)})

        own = [one for one in inspect.signature(command).parameters.values() if one.name != name]
        added = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for option, (annotation, default) in options.items()
        ]
        parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *added]
        # Typer reads the options of a command off its signature and its annotations.
        read_and_call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        read_and_call.__annotations__ = {one.name: one.annotation for one in parameters}
        read_and_call.__name__, read_and_call.__doc__ = command.__name__, command.__doc__
        return read_and_call

    return decorate


def read_filter(
    *,
    state: list[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    correlation: str | None = None,
    parent: str | None = None,
    **rest: str | None,
) -> "Filter":
    """Make a filter of what the options say.

    Raises:
        CliError: one of them means nothing.
    """
    from tasks.ledger.filters import Filter, InvalidFilterError, check_filter, parse_moment, parse_states

    now = datetime.now(UTC)
    try:
        return check_filter(
            Filter(
                states=parse_states(state or []),
                since=None if since is None else parse_moment(since, now=now),
                until=None if until is None else parse_moment(until, now=now),
                correlation_id=correlation,
                parent_id=parent,
                **rest,
            )
        )
    except InvalidFilterError as error:
        raise CliError(str(error), hint="nightcrew jobs list --help", code=ExitCode.USAGE) from error


def check_choice(job_id: str | None, wanted: "Filter", *, verb: str) -> None:
    """Refuse what may be meant otherwise: no filter at all is not every job.

    Raises:
        CliError: neither a job nor a filter was named, or both.
    """
    if (job_id is None) == wanted.is_empty:
        text = "name one job or a filter, not both" if job_id else "name a job, or a filter such as --state or --kind"
        raise CliError(text, hint=f"nightcrew jobs {verb} --help", code=ExitCode.USAGE)


def _choice(flag: str, what: str, metavar: str | None = None) -> Any:
    return Annotated[
        str | None, typer.Option(flag, metavar=metavar, help=what, show_default=False, rich_help_panel="Which jobs")
    ]


_STATE = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="In this state; may be given more than once.",
        show_default=False,
        rich_help_panel="Which jobs",
    ),
]

with_filter = bundled(
    "wanted",
    {
        "state": (_STATE, None),
        "kind": (_choice("--kind", "Of this kind."), None),
        "since": (
            _choice("--since", "Last queued then or later: 90s, 2h, 1d12h ago, or 2026-03-01T06:30 UTC.", "WHEN"),
            None,
        ),
        "until": (_choice("--until", "Last queued before then.", "WHEN"), None),
        "entry": (_choice("--entry", "Slots of this entry of the timetable."), None),
        "correlation": (_choice("--correlation", "With this correlation id.", "ID"), None),
        "parent": (_choice("--parent", "That this job has asked for; its whole id.", "ID"), None),
        "error": (_choice("--error", "Whose error contains this."), None),
    },
    read_filter,
)

with_terms = bundled(
    "terms",
    {
        "limit": (
            Annotated[
                int | None,
                typer.Option("--limit", "-n", min=1, help="How many at most, the oldest first. Default: all."),
            ],
            None,
        ),
        "dry_run": (
            Annotated[bool, typer.Option("--dry-run", help="Show what it would do, and do nothing.")],
            False,
        ),
        "yes": (Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")], False),
    },
    Terms,
)
