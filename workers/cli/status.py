"""`nightcrew status`: one screen that says how the crew is doing."""

from typing import TYPE_CHECKING, Any

import typer

from workers.cli.context import CrewContext, open_crew
from workers.cli.drill_view import drill_text
from workers.cli.options import AsJson, DataDir
from workers.cli.output import ExitCode, console, print_json, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.doctor import Examination
    from workers.doctor.timetable import SlotFacts
    from workers.supervisor.crew_file import CrewRecord

app = typer.Typer()


@app.command()
def status(data_dir: DataDir = None, json: AsJson = False) -> ExitCode:
    """Show how the crew is doing.

    Exit code: 0 all is well, 5 something needs attention, 4 the broker does not answer.

    JSON: {"healthy", "reasons": [{"check", "level", "detail", "fix"}],
    "broker": {"url", "reachable", "server", "version", "persistent", "memory_bytes"},
    "crew": {"pid", "since", "children": {NAME: PID}, "ready": [NAME], "restarts": {NAME: COUNT}} | null,
    "queues": [{"name", "length", "oldest_age_s", "unacked", "workers"}],
    "kinds": [{"kind", "queued", "oldest_age_s", "counted", "cap"}],
    "slots": [{"entry", "kind", "slot_at", "job_id", "state", "next_at", "is_overdue", "verdict": "ok" | "overdue" |
    "overrunning" | "broken", "reasons": [TEXT], "is_late", "duration_s", "paused_until"}],
    "usage": {"pending_entries", "lag_s", "log_bytes", "incidents": [{"at", "partition", "kind", "detail"}]} | null,
    "ledger": {"runs": {STATE: COUNT}, "dead_letters", "waiting_intents"} | null,
    "backups": {"points", "newest_at", "newest_proven_at", "damaged": [ID], "suspect": [ID],
    "unsound_vaults": [NAME], "proven": {"share", "proven", "points", "within_days", "oldest_unproven": {"point",
    "taken_at"} | null, "says"}, "could_restore_to": {"point", "taken_at", "proven_at", "rto_s", "rto_is": "measured" |
    "predicted"} | null, "last_drill": as an element of `drill --list` | null, "predicted_rto": {"point", "seconds",
    "target_s", "basis", "is_over"} | null} | null, "flower": {"url", "user", "password_file"} | null}. The url
    of the broker has no password; what cannot be known while broker or database are away is null or empty.
    """
    with open_crew(data_dir) as crew:
        document = _document(crew)
    if json:
        print_json(document)
    else:
        _print(document)
    if not document["broker"]["reachable"]:
        return ExitCode.BROKER_UNREACHABLE
    return ExitCode.OK if document["healthy"] else ExitCode.DEGRADED


def _document(crew: CrewContext) -> dict[str, Any]:
    from nightcrew._redis import mask_url
    from workers.doctor import Patient, examine_crew
    from workers.lifecycle import close_runtime

    record = crew.record()
    url = crew.address_of(record)
    runtime = crew.build_runtime(url)
    started_at = None if record is None else record.started_at
    try:
        patient = Patient(
            settings=crew.settings,
            broker_url=url,
            runtime=runtime,
            timetable=crew.settings.timetable(),
            started_at=started_at,
        )
        examination = examine_crew(patient)
    finally:
        close_runtime(runtime)
    reasons = [finding for finding in examination.findings if finding.level != "ok"]
    return {
        "healthy": not reasons,
        "reasons": reasons,
        "broker": {"url": mask_url(url), **_broker(examination)},
        "crew": _crew(record),
        "queues": _queues(examination),
        "kinds": _kinds(examination),
        "slots": examination.tables.slots if examination.tables else [],
        "usage": _usage(examination),
        "ledger": _ledger(examination),
        "backups": _backups(examination),
        "flower": _flower(crew, record),
    }


def _broker(examination: "Examination") -> dict[str, Any]:
    facts = examination.broker
    return {
        "reachable": facts is not None,
        "server": facts and facts.server,
        "version": facts and facts.version,
        "persistent": facts and facts.is_persistent,
        "memory_bytes": facts and facts.memory_bytes,
    }


def _crew(record: "CrewRecord | None") -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "pid": record.pid,
        "since": record.started_at,
        "children": record.children,
        "ready": list(record.ready),
        "restarts": record.restarts,
    }


def _queues(examination: "Examination") -> list[dict[str, Any]]:
    if examination.messages is None:
        return []
    return [
        {
            "name": queue.name,
            "length": queue.length,
            "oldest_age_s": None if queue.oldest_age is None else queue.oldest_age.total_seconds(),
            "unacked": queue.unacked,
            "workers": queue.workers,
        }
        for queue in examination.messages.queues
    ]


def _kinds(examination: "Examination") -> list[dict[str, Any]]:
    if examination.combined is None:
        return []
    return [
        {
            "kind": one.kind,
            "queued": one.queued,
            "oldest_age_s": None if one.oldest_age is None else one.oldest_age.total_seconds(),
            "counted": one.counted,
            "cap": one.cap,
        }
        for one in examination.combined.kinds
    ]


def _usage(examination: "Examination") -> dict[str, Any] | None:
    if examination.combined is None or examination.tables is None:
        return None
    backlogs = examination.combined.backlogs
    return {
        "pending_entries": sum(one.entries for one in backlogs),
        "lag_s": max((one.age_s for one in backlogs), default=0.0),
        "log_bytes": sum(one.log_bytes for one in backlogs),
        "incidents": [
            {"at": at, "partition": partition, "kind": incident.kind, "detail": incident.detail}
            for at, partition, incident in examination.tables.incidents
        ],
    }


def _ledger(examination: "Examination") -> dict[str, Any] | None:
    if examination.combined is None:
        return None
    summary = examination.combined.ledger.to_json()
    return {
        "runs": summary["runs"],
        "dead_letters": summary["open_dead_letters"],
        "waiting_intents": summary["waiting_intents"],
    }


def _backups(examination: "Examination") -> dict[str, Any] | None:
    if (facts := examination.backups) is None:
        return None
    return {
        "points": facts.points,
        "newest_at": facts.newest_at,
        "newest_proven_at": facts.newest_proven_at,
        "damaged": list(facts.damaged),
        "suspect": list(facts.suspect),
        "unsound_vaults": list(facts.unsound),
        **facts.proofs.to_json(),
    }


def _flower(crew: CrewContext, record: "CrewRecord | None") -> dict[str, Any] | None:
    from workers.supervisor.flower import PASSWORD_FILE

    if record is None or record.flower is None:
        return None
    password_file = crew.settings.data_dir / PASSWORD_FILE
    return {"url": record.flower.url, "user": record.flower.user, "password_file": password_file}


def _print(document: "Mapping[str, Any]") -> None:
    _print_head(document)
    if document["queues"]:
        print_line("")
        columns = ("name", "length", "oldest_age_s", "unacked", "workers")
        cells = [[_rounded(queue[column]) for column in columns] for queue in document["queues"]]
        print_table(("queue", "waiting", "oldest (s)", "unacked", "workers"), cells)
    if waiting := [kind for kind in document["kinds"] if kind["queued"] or kind["counted"]]:
        print_line("")
        columns = ("kind", "queued", "oldest_age_s", "counted", "cap")
        cells = [[_rounded(kind[column]) for column in columns] for kind in waiting]
        print_table(("kind", "queued", "oldest (s)", "counts", "cap"), cells)
    if document["slots"]:
        print_line("")
        rows = [
            (one.entry, _state(one), one.slot_at, one.state, _rounded(one.duration_s), one.next_at)
            for one in document["slots"]
        ]
        print_table(("entry", "is", "last slot (UTC)", "outcome", "took (s)", "next slot"), rows)
    for reason in document["reasons"]:
        print_line("")
        print_line(f"{reason.level}: {reason.check}: {reason.detail}")
        print_line(f"  fix: {reason.fix}")


def _print_head(document: "Mapping[str, Any]") -> None:
    broker, crew, usage, ledger = (document[name] for name in ("broker", "crew", "usage", "ledger"))
    if document["healthy"]:
        console().print("[bold green]healthy[/]")
    else:
        console().print(f"[bold red]needs attention[/]: {len(document['reasons'])} below")
    answer = f"{broker['server']} {broker['version']}" if broker["reachable"] else "does not answer"
    print_line(f"broker   {broker['url']}  {answer}")
    if crew:
        print_line(f"crew     pid {crew['pid']} since {crew['since']:%Y-%m-%d %H:%M:%SZ}; {', '.join(crew['ready'])}")
    if document["backups"]:
        _print_backups(document["backups"])
    if flower := document["flower"]:
        print_line(f"Flower   {flower['url']}  user {flower['user']}, password in {flower['password_file']}")
    if usage:
        lag = f"{usage['pending_entries']} log entries not counted, the oldest for {usage['lag_s']:.0f} s"
        print_line(f"usage    {lag}; {len(usage['incidents'])} incidents in the last day")
    if ledger:
        runs = ", ".join(f"{count} {state}" for state, count in ledger["runs"].items() if count) or "no jobs"
        print_line(
            f"ledger   {runs}; {ledger['dead_letters']} dead letters, {ledger['waiting_intents']} to be taken in"
        )


def _print_backups(backups: "Mapping[str, Any]") -> None:
    newest = f"{backups['newest_at']:%Y-%m-%d %H:%MZ}" if backups["newest_at"] else "never"
    print_line(f"backups  {backups['points']} points, the newest of {newest}")
    print_line(f"proven   {backups['proven']['says']}")
    if drill := backups["last_drill"]:
        print_line(f"drill    {drill_text(drill)}")


def _state(slot: "SlotFacts") -> str:
    state = "paused" if slot.paused_until else slot.verdict
    return f"{state}, late" if slot.is_late else state


def _rounded(value: Any) -> Any:
    return round(value) if isinstance(value, float) else value
