"""Looking values up."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, print_json, print_line, print_table
from workers.cli.values.options import Context, Deleted, Key, OfContext, OfTag, Prefix, Since, instant_or_none, sort_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.values.values import DefaultValue
    from workers.cli.context import CrewContext

_SHOWN = 60


def get(key: Key, context: Context = "", data_dir: DataDir = None, json: AsJson = False) -> None:
    """Print a value as JSON. Exit 1 when there is none.

    JSON: {"key", "context", "value", "version", "tags", "created_at", "updated_at", "deleted_at",
    "usage": {"total", "accepted", "rejected"}}; the counts are those since the last reset
    """
    from tasks.values.operations import get_values

    with open_crew(data_dir) as crew:
        [value] = get_values(crew.runtime, [(key, context)])
        [document] = _documents(crew, [] if value is None else [value]) or [{}]
    if value is None:
        where = f" in the context {context}" if context else ""
        msg = f"there is no default value {key}{where}"
        raise CliError(msg, hint=f"nightcrew values list --prefix {key}")
    if json:
        print_json(document)
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
        documents = _documents(crew, page.values)
    if json:
        print_json({"values": documents, "next": page.next})
        return
    rows = [_row(one, document) for one, document in zip(page.values, documents, strict=True)]
    print_table(("key", "context", "value", "version", "tags", "uses", "accepted", "updated (UTC)"), rows)
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


def _row(one: "DefaultValue", document: dict[str, Any]) -> tuple[object, ...]:
    shown = "(deleted)" if one.is_deleted else _text(one.value, _SHOWN)
    usage = document["usage"]
    tags = ", ".join(one.tags)
    return one.key, one.context, shown, one.version, tags, usage["total"], usage["accepted"], one.updated_at


def _documents(crew: "CrewContext", values: "Sequence[DefaultValue]") -> list[dict[str, Any]]:
    """Give values as JSON, each with how often it was used: counts belong to the usage slice, by key and context."""
    from tasks.usage.store import UsageQueries

    counts = UsageQueries(crew.engine).counts_of([value.address for value in values])
    documents = []
    for value in values:
        count = counts.get(value.address)
        usage = {name: 0 if count is None else getattr(count, name) for name in ("total", "accepted", "rejected")}
        documents.append(value.to_json() | {"usage": usage})
    return documents


def _text(value: Any, limit: int | None) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"
