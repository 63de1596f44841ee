"""`nightcrew schedule`: the timetable."""

from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schedules.entries import Entry
    from tasks.ledger.catching_up import Pause
    from tasks.ledger.overview import EntryStanding
    from tasks.ledger.runs import Run
    from workers.cli.context import CrewContext

app = typer.Typer(no_args_is_help=True)

EntryName = Annotated[str, typer.Argument(metavar="ENTRY", help="Name of the entry: see `schedule list`.")]


@app.command("list")
def list_entries(data_dir: DataDir = None, json: AsJson = False) -> None:
    """List the entries, each with how it is doing, its last slot and its next one; times are UTC.

    JSON: {"entries": [{"entry", "cron", "kind", "payload", "catch_up", "grace_s", "max_duration_s",
    "verdict": "ok" | "overdue" | "overrunning" | "broken" | null, "reasons": [TEXT],
    "paused": {"since", "until", "reason", "by"} | null, "last": SLOT | null, "next_at", "expires_s"}]}; a SLOT is as
    `schedule history` gives it, the verdict null before there is a database
    """
    from workers.cli.schedule_view import entry_document, print_entries

    now = datetime.now(UTC)
    with open_crew(data_dir) as crew:
        standings, entries = _standings(crew), crew.settings.timetable().values()
    documents = [entry_document(entry, standings.get(entry.name), now=now) for entry in entries]
    if json:
        print_json({"entries": documents})
    else:
        print_entries(documents)


@app.command("next")
def next_slots(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="How many slots.")] = 10,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """List the coming slots of all entries in the order in which they are due; those of a pause will be called off.

    JSON: {"slots": [{"slot_at", "entry", "kind", "paused": true | false}]}
    """
    now = datetime.now(UTC)
    with open_crew(data_dir) as crew:
        entries = crew.settings.timetable().values()
        pauses = {name: standing.pause for name, standing in _standings(crew).items()}
    coming = islice(merge(*(_slots(entry, now) for entry in entries)), count)
    kinds = {entry.name: entry.message.kind for entry in entries}
    slots = [(at, name, kinds[name], _is_paused(pauses.get(name), at)) for at, name in coming]
    if json:
        print_json({"slots": [dict(zip(("slot_at", "entry", "kind", "paused"), slot, strict=True)) for slot in slots]})
    else:
        rows = [(at, name, kind, "paused" if is_paused else "") for at, name, kind, is_paused in slots]
        print_table(("slot (UTC)", "entry", "kind", ""), rows)


@app.command("history")
def show_history(
    entry: EntryName,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many slots.")] = 30,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Show what became of the slots of an entry, newest first, and how long they took; also of an entry that is gone.

    JSON: {"entry", "summary": {"slots", "success_rate", "p50_duration_s", "p95_duration_s", "longest_duration_s",
    "last_success_at"}, "slots": [{"slot_at", "job_id", "state", "late", "late_by_s", "started_at", "duration_s",
    "attempt", "error"}]}; the rate is of the slots that were to run and have ended, the durations of those that
    ended well; late_by_s counts from the slot to the first attempt, duration_s is that of the last attempt
    """
    from tasks.ledger.history import summarize
    from tasks.ledger.overview import read_history
    from workers.cli.schedule_view import print_history

    with open_crew(data_dir) as crew:
        timetable = crew.settings.timetable()
        if entry not in timetable and not crew.has_database:
            raise _no_entry(entry, timetable)
        slots = read_history(entry, crew.runtime, limit=limit)
    if not slots and entry not in timetable:
        raise _no_entry(entry, timetable)
    summary = summarize(slots)
    if json:
        print_json({"entry": entry, "summary": summary.to_json(), "slots": [slot.to_json() for slot in slots]})
    else:
        print_history(entry, summary, slots)


@app.command("pause")
def pause_entry(
    entry: EntryName,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands at every slot that is called off.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="INSTANT", help="End of the pause, UTC.")] = "",
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="Its length, such as 12h or 3d.")] = "",
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Call off the slots of an entry for a while. What runs goes on; afterwards nothing of the pause is caught up.

    A pause needs a reason and an end, and ends by itself. A second one takes the place of the first.

    JSON: {"entry", "since", "until", "reason", "by"}
    """
    from tasks.ledger.pauses import pause

    ends_at = _end_of_pause(until, length, entry)
    with open_crew(data_dir) as crew:
        wanted = _entry(entry, crew)
        try:
            made = pause(wanted, crew.runtime, until=ends_at, reason=reason, by=_operator())
        except ValueError as error:
            raise CliError(str(error), hint=_pause_hint(entry), code=ExitCode.USAGE) from error
    if json:
        print_json({"entry": entry, "since": made.since, "until": made.until, "reason": made.reason, "by": made.by})
    else:
        print_line(f"{entry} is {made}; to end it before: nightcrew schedule resume {entry}")


@app.command("resume")
def resume_entry(entry: EntryName, data_dir: DataDir = None, json: AsJson = False) -> None:
    """End the pause of an entry now. Its slots until now stay called off, the next one runs.

    JSON: {"entry", "resumed": true | false, "next_at"}; `resumed` is false where there was no pause
    """
    from tasks.ledger.pauses import resume

    with open_crew(data_dir) as crew:
        wanted = _entry(entry, crew)
        ended = resume(wanted, crew.runtime, by=_operator())
    next_at = next(wanted.slots_after(datetime.now(UTC)))
    if json:
        print_json({"entry": entry, "resumed": ended is not None, "next_at": next_at})
    else:
        was = "goes on" if ended else "was not paused"
        print_line(f"{entry} {was}; its next slot is {next_at:%Y-%m-%d %H:%M}Z")


@app.command("run-now")
def run_now(entry: EntryName, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Run an entry now: the slot at hand, if nobody has fired it yet, else once more outside the timetable.

    An entry that is paused runs as well.

    JSON: {"entry", "slot_at" | null, "id"}; `id` is the job's, `slot_at` null when it belongs to no slot
    """
    from tasks.ledger.firing import make_run_now

    with open_crew(data_dir) as crew:
        wanted = _entry(entry, crew)
        run = make_run_now(wanted, crew.runtime)
        _publish(crew, run)
    if json:
        print_json({"entry": entry, "slot_at": run.slot_at, "id": run.id})
    else:
        of = f"the slot of {run.slot_at:%Y-%m-%d %H:%M}Z" if run.slot_at else "outside the timetable"
        print_line(f"{run.id} {run.kind}, {of}; to follow it: nightcrew jobs show {run.id}")


def _publish(crew: "CrewContext", run: "Run") -> None:
    from tasks.errors import TransientError
    from tasks.ledger.walking import hand_out

    try:
        hand_out(crew.runtime, [run])
    except TransientError as error:
        msg = f"run {run.id} is in the ledger, but the broker did not take its message: {error}"
        hint = "a crew that runs sends it within two minutes; nightcrew doctor says what is wrong"
        raise CliError(msg, hint=hint, code=ExitCode.BROKER_UNREACHABLE) from error


def _standings(crew: "CrewContext") -> "dict[str, EntryStanding]":
    """Look at the entries; a crew that never ran has nothing to look at."""
    if not crew.has_database:
        return {}
    from tasks.ledger.overview import look_at

    record = crew.record()
    since = None if record is None else record.started_at
    return {
        standing.entry: standing
        for standing in look_at([*crew.settings.timetable().values()], crew.runtime, since=since)
    }


def _entry(name: str, crew: "CrewContext") -> "Entry":
    timetable = crew.settings.timetable()
    if name not in timetable:
        raise _no_entry(name, timetable)
    return timetable[name]


def _no_entry(name: str, timetable: "Mapping[str, Entry]") -> CliError:
    from difflib import get_close_matches

    close = get_close_matches(name, timetable, n=1)
    hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(sorted(timetable))}"
    return CliError(f"no entry {name!r}", hint=hint, code=ExitCode.USAGE)


def _end_of_pause(until: str, length: str, entry: str) -> datetime:
    from workers.cli.times import parse_duration, parse_instant

    if bool(until) == bool(length):
        msg = "a pause needs an end: give either --until or --for"
        raise CliError(msg, hint=_pause_hint(entry), code=ExitCode.USAGE)
    try:
        return parse_instant(until) if until else datetime.now(UTC) + parse_duration(length)
    except OverflowError as error:
        msg = f"no calendar reaches as far as {length}"
        raise CliError(msg, hint=_pause_hint(entry), code=ExitCode.USAGE) from error


def _pause_hint(entry: str) -> str:
    return f'nightcrew schedule pause {entry} --for 3d --reason "why"'


def _operator() -> str:
    """Name who sits at the keyboard, by the system and not by the environment."""
    import os
    import pwd

    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _slots(entry: "Entry", after: datetime) -> "Iterator[tuple[datetime, str]]":
    return ((slot, entry.name) for slot in entry.slots_after(after))


def _is_paused(pause: "Pause | None", slot: datetime) -> bool:
    return pause is not None and pause.covers(slot)
