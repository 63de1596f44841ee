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
    from collections.abc import Iterator

    from nightcrew.messages import FireSchedule
    from schedules.entries import Entry
    from workers.cli.context import CrewContext

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_entries(data_dir: DataDir = None, json: AsJson = False) -> None:
    """List the entries, each with its last run and its next slot; times are UTC.

    JSON: {"entries": [{"entry", "cron", "kind", "payload", "catch_up", "last": {"slot_at", "job_id", "state"} | null,
    "next_at", "expires_s"}]}
    """
    from schedules.timetable import ENTRIES

    now = datetime.now(UTC)
    with open_crew(data_dir) as crew:
        last = {entry.name: _last(crew, entry) for entry in ENTRIES}
    documents = [
        {
            "entry": entry.name,
            "cron": entry.cron,
            "kind": entry.message.kind,
            "payload": entry.message.to_payload(),
            "catch_up": entry.catch_up,
            "last": last[entry.name],
            "next_at": next(entry.slots_after(now)),
            "expires_s": entry.expires.total_seconds(),
        }
        for entry in ENTRIES
    ]
    if json:
        print_json({"entries": documents})
        return
    cells = [
        (one["entry"], one["cron"], one["kind"], *_shown(last[str(one["entry"])]), one["next_at"], one["expires_s"])
        for one in documents
    ]
    print_table(("entry", "cron (UTC)", "kind", "last slot", "outcome", "next slot", "expires (s)"), cells)


@app.command("next")
def next_slots(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="How many slots.")] = 10,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """List the coming slots of all entries in the order in which they are due.

    JSON: {"slots": [{"slot_at", "entry", "kind"}]}
    """
    del data_dir  # the timetable is that of this version of the crew
    from schedules.timetable import ENTRIES

    now = datetime.now(UTC)
    slots = islice(merge(*(_slots(entry, now) for entry in ENTRIES)), count)
    kinds = {entry.name: entry.message.kind for entry in ENTRIES}
    if json:
        print_json({"slots": [{"slot_at": at, "entry": name, "kind": kinds[name]} for at, name in slots]})
    else:
        print_table(("slot (UTC)", "entry", "kind"), [(at, name, kinds[name]) for at, name in slots])


@app.command("run-now")
def run_now(
    entry: Annotated[str, typer.Argument(help="Name of the entry.")], data_dir: DataDir = None, json: AsJson = False
) -> None:
    """Run an entry now: the slot at hand, if nobody has fired it yet, else once more outside the timetable.

    JSON: {"entry", "slot_at" | null, "id"}; `id` is the job's, `slot_at` null when it belongs to no slot
    """
    from nightcrew import Nightcrew
    from nightcrew.messages import FireSchedule
    from schedules.timetable import TIMETABLE
    from tasks.ledger.slots import slot_job_id

    if entry not in TIMETABLE:
        msg = f"no entry {entry!r}"
        raise CliError(msg, hint=f"one of {', '.join(sorted(TIMETABLE))}", code=ExitCode.USAGE)
    wanted = TIMETABLE[entry]
    with open_crew(data_dir) as crew, Nightcrew(crew.broker_url) as producer:
        slot_at = wanted.slot_at(datetime.now(UTC))
        last = _last(crew, wanted)
        if last is None or last["slot_at"] != slot_at:
            job_id = slot_job_id(entry, slot_at)
            _fire(crew, FireSchedule(entry=entry))
            document = {"entry": entry, "slot_at": slot_at, "id": job_id}
            line = f"{job_id} {wanted.message.kind}, the slot of {slot_at:%Y-%m-%d %H:%M}Z"
        else:
            job_id = producer.enqueue(wanted.message).id
            document = {"entry": entry, "slot_at": None, "id": job_id}
            line = f"{job_id} {wanted.message.kind}; the slot of {slot_at:%Y-%m-%d %H:%M}Z has its run already"
    if json:
        print_json(document)
    else:
        print_line(line)


def _last(crew: "CrewContext", entry: "Entry") -> dict[str, object] | None:
    """Give the run of the newest slot that has one; a crew that never ran has none."""
    if not crew.has_database:
        return None
    from tasks.ledger.firing import newest_slot_run

    run = newest_slot_run(entry, crew.runtime)
    if run is None or run.dedup_key is None:
        return None
    slot_at = datetime.fromisoformat(run.dedup_key.removeprefix(f"{entry.name}:"))
    return {"slot_at": slot_at, "job_id": run.id, "state": str(run.state)}


def _fire(crew: "CrewContext", message: "FireSchedule") -> None:
    """Send what beat sends: a message without an intent, because the row of the slot is the record."""
    from nightcrew._uuid7 import uuid7

    bell_id = str(uuid7())
    crew.runtime.publisher.publish(message, job_id=bell_id, correlation_id=bell_id, enqueued_at=datetime.now(UTC))


def _shown(last: dict[str, object] | None) -> tuple[object, object]:
    return (last["slot_at"], last["state"]) if last else (None, None)


def _slots(entry: "Entry", after: datetime) -> "Iterator[tuple[datetime, str]]":
    return ((slot, entry.name) for slot in entry.slots_after(after))
