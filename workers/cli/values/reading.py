"""Looking values up."""

from typing import Annotated, Any

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, print_json, print_line, print_table
from workers.cli.values.options import Context, Deleted, Key, OfContext, OfTag, Prefix, Since, instant_or_none, sort_key

_SHOWN = 60


def get(key: Key, context: Context = "", data_dir: DataDir = None, json: AsJson = False) -> None:
    """Print a value as JSON. Exit 1 when there is none.

    JSON: {"key", "context", "value", "version", "tags", "created_at", "updated_at", "deleted_at"}
    """
    from tasks.values.operations import get_values

    with open_crew(data_dir) as crew:
        [value] = get_values(crew.runtime, [(key, context)])
    if value is None:
        where = f" in the context {context}" if context else ""
        msg = f"there is no default value {key}{where}"
        raise CliError(msg, hint=f"nightcrew values list --prefix {key}")
    if json:
        print_json(value.to_json())
    else:
        print_line(_text(value.value, None))


def list_(  # noqa: PLR0913, PLR0917  one for each option
    prefix: Prefix = "",
    context: OfContext = None,
    tag: OfTag = None,
    since: Since = None,
    with_deleted: Deleted = False,
    sort: Annotated[str, typer.Option("--sort", help="key, created_at, updated_at or version.")] = "key",
    descending: Annotated[bool, typer.Option("--desc", help="The largest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many on a page.")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="The mark that the page before ended with.")] = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """List values, page by page.

    JSON: {"values": [as `values get` gives them], "next": MARK | null}
    """
    from tasks.values.listing import Listing
    from tasks.values.operations import list_values

    listing = Listing(
        prefix=prefix,
        context=context,
        tag=tag,
        updated_since=instant_or_none(since),
        deleted="with" if with_deleted else "without",
        sort=sort_key(sort),
        descending=descending,
        limit=limit,
        after=after,
    )
    with open_crew(data_dir) as crew:
        page = list_values(crew.runtime, listing)
    if json:
        print_json({"values": [value.to_json() for value in page.values], "next": page.next})
        return
    rows = [
        (
            one.key,
            one.context,
            "(deleted)" if one.is_deleted else _text(one.value, _SHOWN),
            one.version,
            ", ".join(one.tags),
            one.updated_at,
        )
        for one in page.values
    ]
    print_table(("key", "context", "value", "version", "tags", "updated (UTC)"), rows)
    if page.next is not None:
        print_line(f"more: add --after {page.next}")


def history(key: Key, context: Context = "", data_dir: DataDir = None, json: AsJson = False) -> None:
    """Print who made a value what and when, the newest first.

    JSON: {"key", "context", "versions": [{"version", "action": "create" | "update" | "delete" | "purge", "actor",
    "at", "value", "has_value", "tags"}]}
    """
    from tasks.values.operations import trail_of

    with open_crew(data_dir) as crew:
        trail = trail_of(crew.runtime, (key, context))
    if json:
        print_json({"key": key, "context": context, "versions": [line.to_json() for line in trail]})
        return
    rows = [
        (line.version, line.at, line.action, line.actor, _text(line.value, _SHOWN) if line.has_value else "-")
        for line in trail
    ]
    print_table(("version", "at (UTC)", "action", "by", "value"), rows)


def _text(value: Any, limit: int | None) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"
