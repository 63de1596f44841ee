"""`nightcrew usage`: count, rank, reset and replay uses."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from workers.cli.context import CrewContext, open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line, print_table, write_json_list

app = typer.Typer(no_args_is_help=True)

Context = Annotated[str | None, typer.Option("--context", help="Only this context; all of them by default.")]
Key = Annotated[str, typer.Argument(help="Key of the default value.")]

_BAR_CELLS = 40


@app.command()
def count(key: Key, context: Context = None, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Print how often a key was used since its last reset.

    JSON: {"key", "context", "total", "accepted", "rejected"}
    """
    with open_crew(data_dir) as crew:
        row = _queries(crew).count(key, context)
    if json:
        print_json(_as_dict(row))
    else:
        print_table(("key", "total", "accepted", "rejected"), [(row.key, row.total, row.accepted, row.rejected)])


@app.command()
def top(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many keys.")] = 20,
    context: Context = None,
    by: Annotated[str, typer.Option("--by", help="total, accepted or rejected.")] = "total",
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Print the keys used most.

    JSON: {"top": [{"key", "context", "total", "accepted", "rejected"}]}
    """
    if by not in ("total", "accepted", "rejected"):
        msg = f"--by is {by!r}"
        raise CliError(msg, hint="give total, accepted or rejected", code=ExitCode.USAGE)
    with open_crew(data_dir) as crew:
        rows = _queries(crew).top(limit, context=context, by=by)
    if json:
        print_json({"top": [_as_dict(row) for row in rows]})
        return
    longest = max((getattr(row, by) for row in rows), default=0)
    cells = [(row.key, row.total, row.accepted, row.rejected, _bar(getattr(row, by), longest)) for row in rows]
    print_table(("key", "total", "accepted", "rejected", ""), cells)


@app.command()
def history(
    key: Key,
    hours: Annotated[int, typer.Option("--hours", min=1, help="How many hours back, this one included.")] = 24,
    since: Annotated[datetime | None, typer.Option("--since", help="From this hour on, in UTC, instead.")] = None,
    context: Context = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Print how often a key was used, hour by hour; hours without a use are left out. Resets leave it alone.

    JSON: {"key", "context", "hours": [{"hour_at", "total", "accepted", "rejected"}]}
    """
    until = datetime.now(UTC) + timedelta(days=2)  # events may lie a day ahead
    start = since.replace(tzinfo=UTC) if since else datetime.now(UTC) - timedelta(hours=hours - 1)
    with open_crew(data_dir) as crew:
        rows = _queries(crew).history(key, since=start, until=until, context=context)
    if json:
        print_json({"key": key, "context": context or "", "hours": [_as_dict(row) for row in rows]})
        return
    longest = max((row.total for row in rows), default=0)
    cells = [(row.hour_at, row.total, row.accepted, row.rejected, _bar(row.total, longest)) for row in rows]
    print_table(("hour", "total", "accepted", "rejected", ""), cells)


@app.command()
def snapshot(
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Wait up to this many seconds until all that is logged is counted.")
    ] = 0,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Print every count, all as of one moment.

    JSON: {"as_of", "counts": [{"key", "context", "total", "accepted", "rejected"}]}
    """
    with open_crew(data_dir) as crew:
        if wait_s:
            _wait_until_counted(crew, wait_s)
        as_of = datetime.now(UTC)
        with closing(_queries(crew).snapshot()) as rows:
            if json:
                write_json_list({"as_of": as_of}, "counts", map(_as_dict, rows))
            else:
                cells = ((row.key, row.context, row.total, row.accepted, row.rejected) for row in rows)
                print_table(("key", "context", "total", "accepted", "rejected"), cells)


@app.command()
def reset(
    key: Annotated[str | None, typer.Argument(help="Key to count again from zero.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every key.")] = False,
    context: Context = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Count a key again from zero. The order is an entry of the log, so a replay repeats it at the same place.

    JSON: {"reset": {"key", "context"}}
    """
    from nightcrew._validation import check_context, check_key
    from tasks.usage.operations import log_reset

    if (key is None) != everything:
        raise CliError("give a key, or --all", hint="nightcrew usage reset KEY", code=ExitCode.USAGE)
    if key is not None:
        check_key(key)
    if context is not None:
        check_context(context)
    with open_crew(data_dir) as crew, crew.awake():
        log_reset(crew.runtime, key=key, context=context)
    if json:
        print_json({"reset": {"key": key, "context": context}})
    else:
        print_line(f"reset of {'every key' if key is None else key} is logged")


@app.command()
def replay(data_dir: DataDir = None, json: AsJson = False) -> None:
    """Bring an older copy of the database up to date: apply what the log has behind its position.

    Needs no running crew: it starts the broker of this data directory for as long as it takes.

    JSON: {"partitions": [{"partition", "from", "to", "entries", "increments"}], "totals": {"total", "history"}}
    """
    from workers.database import migrate

    with open_crew(data_dir) as crew, crew.awake():
        migrate(crew.engine)
        partitions = list(_replayed(crew))
        sums = _queries(crew).sums()
    if sums.history_total != sums.total + sums.reset_total:
        msg = f"counts and history disagree: {sums}"
        raise CliError(msg, hint="restore another copy and replay again")
    if json:
        totals = {"total": sums.total, "history": sums.history_total}
        print_json({"partitions": partitions, "totals": totals})
        return
    print_table(("partition", "from", "to", "entries", "increments"), (tuple(one.values()) for one in partitions))
    print_line(f"total {sums.total}; the history agrees")


def _replayed(crew: CrewContext) -> Iterator[dict[str, Any]]:
    from tasks.usage.operations import drain_partition, partitions

    for partition in partitions(crew.runtime):
        before = _queries(crew).positions().get(partition)
        report = drain_partition(crew.runtime, partition)
        after = _queries(crew).positions().get(partition)
        yield {
            "partition": partition,
            "from": before.last_id if before else None,
            "to": after.last_id if after else None,
            "entries": report.entries,
            "increments": report.increments,
        }


def _wait_until_counted(crew: CrewContext, wait_s: float) -> None:
    import time

    from tasks.usage.operations import backlog

    deadline = time.monotonic() + wait_s
    while (left := sum(one.entries for one in backlog(crew.runtime))) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        msg = f"{left} entries of the log are not counted after {wait_s:g} s"
        raise CliError(msg, hint="nightcrew status")


def _queries(crew: CrewContext) -> Any:
    from tasks.usage.store import UsageQueries

    return UsageQueries(crew.engine)


def _as_dict(row: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(row)


def _bar(value: int, longest: int) -> str:
    return "█" * max(1, round(_BAR_CELLS * value / longest)) if value else ""
