"""`nightcrew jobs show`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from workers.cli.context import open_crew
from workers.cli.jobs.listing import shortened
from workers.cli.jobs.options import JobId
from workers.cli.jobs.refusals import refusals
from workers.cli.options import AsJson, DataDir
from workers.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from tasks.ledger.events import RunEvent
    from tasks.ledger.operations import Branch, RunStory

_MINUTE_S, _HOUR_S = 60, 3600


def show(job_id: JobId, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Show all that is known of a job: its attempts and workers, its children, and what it holds.

    JSON: {"job": {…}, "events": [{"run_id", "revision", "at", "event", "state", "attempt", "worker", "detail"}],
    "parent": {"id", "kind", "state"} | null, "children": [{"id", "kind", "state", "attempt", "progress", "error",
    "children": […]}], "leases": [{"resource", "fence", "run_id", "run_fence", "worker", "taken_at", "lease_until"}],
    "dead_letters": [{…}], "queue": {"queue", "published_at", "age_s", "ahead"} | null, "next_try_at" | null}; keys of
    `job` as in `jobs list`, of `dead_letters` as in `jobs dead`. `queue` is where its message waits, `ahead` counts
    those published before; `next_try_at` is when a job without a message gets its next one
    """
    from tasks.ledger.operations import find_run, tell_story

    with open_crew(data_dir) as crew, refusals(hint="nightcrew jobs list"):
        story = tell_story(crew.runtime, find_run(crew.runtime, job_id))
    if json:
        print_json(story.to_json())
    else:
        _print(story)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print what is known, a field a line."""
    print_table(("field", "value"), [(name, value) for name, value in fields.items() if value is not None])


def offset(duration: timedelta) -> str:
    """Show a duration in two units at most."""
    total_s = duration.total_seconds()
    minutes, seconds = divmod(round(total_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if total_s < _MINUTE_S:
        return f"{total_s:.1f}s"
    if total_s < _HOUR_S:
        return f"{minutes}m{seconds:02}s"
    return f"{hours}h{minutes:02}m" if not days else f"{days}d{hours:02}h"


def _print(story: "RunStory") -> None:
    print_fields({**_header(story), **story.run.to_json()})
    print_line("")
    columns = ("at", "after", "event", "state", "attempt", "worker", "detail")
    print_table(columns, _timeline(story.events), title="timeline")
    if story.children:
        rows = list(_tree(story.children, depth=0))
        _print_part("children", ("job", "kind", "state", "attempt", "error"), rows)
    if story.leases:
        rows = [(one.resource, one.fence, one.worker, one.taken_at, one.lease_until) for one in story.leases]
        _print_part("holds", ("resource", "fence", "worker", "taken", "until"), rows)
    if story.dead_letters:
        rows = [(one.id, one.received_at, shortened(one.reason), one.retried_at) for one in story.dead_letters]
        _print_part("dead letters", ("number", "received", "reason", "tried again"), rows)


def _header(story: "RunStory") -> dict[str, Any]:
    run, place, parent = story.run, story.place, story.parent
    waits = place and f"for {offset(place.waits)} on {place.queue}, {place.ahead} before it"
    return {
        "outcome": f"{run.state}, LATE" if run.is_late else str(run.state),
        "waits": waits,
        "next try": story.next_try_at,
        "parent": parent and f"{parent.id} {parent.kind} {parent.state}",
    }


def _print_part(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print_line("")
    print_table(columns, rows, title=title)


def _timeline(events: "Sequence[RunEvent]") -> Iterator[tuple[object, ...]]:
    for event in events:
        after = f"+{offset(event.at - events[0].at)}"
        yield event.at, after, event.event, event.state, event.attempt, event.worker, event.detail


def _tree(branches: "Sequence[Branch]", *, depth: int) -> Iterator[tuple[object, ...]]:
    for branch in branches:
        run = branch.run
        yield "  " * depth + run.id, run.kind, run.state, run.attempt, shortened(run.error)
        yield from _tree(branch.branches, depth=depth + 1)
