"""Options that several of the commands take."""

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.output import CliError, ExitCode
from workers.cli.times import parse_instant

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.values.listing import SortKey

Key = Annotated[str, typer.Argument(metavar="KEY", help="Key of the default value.")]
Context = Annotated[str, typer.Option("--context", help="Where it is offered; empty: everywhere else.")]
SeenVersion = Annotated[
    int | None, typer.Option("--if-version", min=1, help="Only if it is still at this version: the one you have read.")
]
Prefix = Annotated[str, typer.Option("--prefix", help="Only keys that begin like this.")]
OfContext = Annotated[str | None, typer.Option("--context", help="Only this context; all of them by default.")]
OfTag = Annotated[str | None, typer.Option("--tag", help="Only what has this tag.")]
Since = Annotated[str | None, typer.Option("--updated-since", help="Only what has changed since, in UTC.")]
Deleted = Annotated[bool, typer.Option("--with-deleted", help="What is deleted and not purged as well.")]


def actor() -> str:
    """Give who stands in the trail: the user of this machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # an account without a name, as containers have them
        return "cli"


def sort_key(written: str) -> "SortKey":
    """Give what is sorted by.

    Raises:
        CliError: nothing can be sorted by it.
    """
    from tasks.values.listing import SORT_KEYS

    for key in SORT_KEYS:
        if key == written:
            found: SortKey = key
            return found
    msg = f"--sort is {written!r}"
    raise CliError(msg, hint=f"one of {', '.join(SORT_KEYS)}", code=ExitCode.USAGE)


def instant_or_none(written: str | None) -> "datetime | None":
    """Read an instant, if one was given.

    Raises:
        CliError: it is none.
    """
    return None if written is None else parse_instant(written)
