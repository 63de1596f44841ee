"""`nightcrew jobs` on a real broker and real databases, without workers: what is asked, done, printed and returned."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from nightcrew import Nightcrew, wire
from nightcrew.messages import RunCanary
from nightcrew.signing import Guard, SigningKey
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.runs import wanted_run
from tasks.ledger.states import Move, State
from tasks.ledger.store import queries, runs
from tests.support.databases import opened_engine
from tests.support.terminals import on_terminal
from workers.cli.context import open_crew
from workers.cli.verbs import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.support.redis import RedisServer

NOW = datetime.now(UTC)
_RUN_KEYS = {
    "id", "kind", "queue", "dedup_key", "payload", "state", "revision", "attempt", "max_attempts", "fence", "worker",
    "lease_until", "heartbeat_at", "progress", "progress_text", "result", "error", "correlation_id", "enqueued_at",
    "queued_at", "published_at", "republish_at", "started_at", "finished_at", "updated_at", "first_started_at",
    "parent_id", "entry", "slot_at", "late_after", "start_before", "watched", "cancel_requested_at", "cancel_reason",
    "late",
}  # fmt: skip


class Jobs:
    """The verb, on one data directory."""

    def __init__(self, data_dir: Path, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
        self.engine = engine
        self.data_dir = data_dir
        self.errors = ""
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        [line] = self.text(*arguments, "--json", code=code).splitlines()
        document: dict[str, Any] = json.loads(line)
        return document

    def text(self, *arguments: str, code: int = 0) -> str:
        returned = run(["jobs", *arguments, "--data-dir", str(self.data_dir)])
        shown = self._capsys.readouterr()
        self.errors = shown.err
        assert returned == code, shown
        return shown.out

    def insert(self, number: int, *, state: State = State.QUEUED, error: str = "no luck") -> str:
        wanted = wanted_run(
            job_id=f"01931f2e-5f6a-7abc-8def-{number:012}",
            kind=RunCanary.kind,
            payload={},
            dedup_key=None,
            correlation_id=None,
            enqueued_at=NOW,
        )
        [new] = runs.insert(self.engine, [wanted], now=NOW, republish_after=timedelta(minutes=1))
        if state in {State.RUNNING, State.SUCCEEDED}:
            lease = timedelta(minutes=5)
            now = datetime.now(UTC)
            claim = runs.claim(self.engine, wanted, now=now, worker="w", lease=lease, max_attempts=4)
            if claim.run is not None and state is State.SUCCEEDED:
                runs.succeed(self.engine, claim.run, result=7, now=now)
        elif state is not State.QUEUED:
            runs.end(self.engine, new, move=Move(to=state, reason=error), now=NOW)
        return new.id

    def state(self, run_id: str) -> State:
        found = queries.by_id(self.engine, run_id)
        assert found is not None
        return found.state


@pytest.fixture(params=["sqlite_url", "pg_url"])
def jobs(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> Iterator[Jobs]:
    """Give the verb on each kind of database."""
    yield from _jobs(request.getfixturevalue(request.param), tmp_path, redis_server.url, capsys)


@pytest.fixture
def quick_jobs(
    sqlite_url: str, tmp_path: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> Iterator[Jobs]:
    """Give the verb on SQLite alone."""
    yield from _jobs(sqlite_url, tmp_path, redis_server.url, capsys)


def _jobs(database_url: str, tmp_path: Path, broker_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Jobs]:
    settings = tmp_path / "nightcrew.toml"
    settings.write_text(f'[broker]\nurl = "{broker_url}"\n[database]\nurl = "{database_url}"\n', encoding="utf-8")
    settings.chmod(0o600)
    with opened_engine(database_url) as engine:
        yield Jobs(tmp_path, engine, capsys)


def test_list_takes_every_part_of_a_filter(jobs: Jobs) -> None:
    """More than one state, times and texts; what means nothing ends with 2."""
    dead, missed = jobs.insert(1, state=State.DEAD), jobs.insert(2, state=State.MISSED, error="too late")
    jobs.insert(3)
    listed = jobs("list", "--state", "dead", "--state", "missed")["jobs"]
    assert {one["id"] for one in listed} == {dead, missed}
    assert listed[0].keys() == _RUN_KEYS
    assert [
        one["id"] for one in jobs("list", "--error", "LATE", "--since", "1h", "--kind", "ledger.canary")["jobs"]
    ] == [missed]
    assert jobs("list", "--until", "1h")["jobs"] == []
    for wrong in (["--state", "happy"], ["--since", "soon"], ["--since", "1h", "--until", "2h"], ["--error", ""]):
        jobs.text("list", *wrong, code=2)
        assert "jobs list --help" in jobs.errors


def test_a_dry_run_does_nothing(jobs: Jobs, redis_server: RedisServer) -> None:
    """It shows what would be done, of one and of many."""
    dead, queued = jobs.insert(1, state=State.DEAD), jobs.insert(2)
    answer = jobs("retry", "--kind", "ledger.canary", "--state", "dead", "--state", "queued", "--dry-run")
    assert answer.keys() == {"dry_run", "jobs", "counts"}
    assert (answer["dry_run"], answer["counts"]) == (True, {"retry": 1, "refuse": 1})
    assert answer["jobs"][0].keys() == {"id", "kind", "state", "action", "reason", "problem"}
    assert "would be queued again" in jobs.text("retry", dead, "--dry-run")
    assert jobs("cancel", queued, "--dry-run")["counts"] == {"cancel": 1}
    assert jobs("cancel", "--state", "queued", "--dry-run")["counts"] == {"cancel": 1}
    assert (jobs.state(dead), jobs.state(queued)) == (State.DEAD, State.QUEUED)
    assert redis_server.client().llen("nightcrew.ledger") == 0


def test_retry_of_a_filter(jobs: Jobs, redis_server: RedisServer) -> None:
    """Without --state what failed, is dead or was missed; each gets its message."""
    states = (State.DEAD, State.FAILED, State.MISSED, State.CANCELLED, State.SUCCEEDED)
    ended = [jobs.insert(number, state=state) for number, state in enumerate(states)]
    answer = jobs("retry", "--kind", "ledger.canary", "--yes")
    assert answer["counts"] == {"retry": 3}
    assert [jobs.state(run_id) for run_id in ended] == [*[State.QUEUED] * 3, State.CANCELLED, State.SUCCEEDED]
    assert redis_server.client().llen("nightcrew.ledger") == 3
    refused = jobs("retry", "--state", "succeeded", "--state", "cancelled", "--yes", "-n", "9", code=1)
    assert refused["counts"] == {"retry": 1, "refuse": 1}
    assert "1 refused" in jobs.text("retry", "--state", "succeeded", "--yes", code=1)


def test_nobody_is_asked_behind_a_pipe(quick_jobs: Jobs) -> None:
    """A filter without --yes ends with 2 and says how to look first; nothing is done."""
    jobs = quick_jobs
    dead, queued = jobs.insert(1, state=State.DEAD), jobs.insert(2)
    jobs.text("retry", "--state", "dead", code=2)
    assert "--dry-run" in jobs.errors
    jobs.text("cancel", "--state", "queued", "--reason", "wrong", code=2)
    assert "--dry-run" in jobs.errors
    assert (jobs.state(dead), jobs.state(queued)) == (State.DEAD, State.QUEUED)


def test_a_filter_that_finds_nothing_says_so(quick_jobs: Jobs) -> None:
    """That is no error; neither job nor filter is one, and both are one too."""
    jobs = quick_jobs
    dead = jobs.insert(1, state=State.DEAD)
    assert jobs.text("retry", "--kind", "no.such", "--yes") == "no job matches: kind no.such\n"
    assert jobs("cancel", "--kind", "no.such", "--reason", "x")["jobs"] == []
    for arguments in (["retry"], ["retry", dead, "--kind", "a"], ["cancel", "--reason", "x"]):
        jobs.text(*arguments, code=2)
        assert "filter" in jobs.errors
    jobs.text("cancel", dead, code=2)
    assert "--reason" in jobs.errors


def test_cancel_says_by_whom_and_why(jobs: Jobs) -> None:
    """What waits ends, what works is asked; what has ended is refused with its reason."""
    queued, running, dead = jobs.insert(1), jobs.insert(2, state=State.RUNNING), jobs.insert(3, state=State.DEAD)
    [one] = jobs("cancel", queued, "--reason", "wrong input")["jobs"]
    assert (one["state"], one["action"]) == ("cancelled", "cancel")
    shown = jobs("show", queued)
    assert shown["job"]["error"].startswith("wrong input (by ")
    assert "@" in shown["events"][-1]["detail"]
    assert jobs("cancel", running, "--reason", "stop", "--wait", "0.1", code=1)["counts"] == {"request": 1}
    assert jobs("show", running)["job"]["cancel_requested_at"]
    assert "has ended as dead" in jobs.text("cancel", dead, "--reason", "stop", code=1)


def test_show_has_the_promised_keys(jobs: Jobs) -> None:
    """The keys of the JSON object are part of the interface."""
    run_id = jobs.insert(1, state=State.RUNNING)
    document = jobs("show", run_id)
    assert document.keys() == {
        "job", "events", "parent", "children", "leases", "dead_letters", "queue", "next_try_at",
    }  # fmt: skip
    assert document["job"].keys() == _RUN_KEYS
    assert [event["event"] for event in document["events"]] == ["queued", "started"]
    assert document["events"][0].keys() == {
        "run_id", "revision", "at", "event", "state", "attempt", "worker", "detail",
    }  # fmt: skip
    text = jobs.text("show", run_id)
    assert all(part in text for part in ("timeline", "started", "+0.0s", "running"))
    assert jobs("show", jobs.insert(2))["queue"].keys() == {"queue", "published_at", "age_s", "ahead"}


def test_watch_into_a_pipe(quick_jobs: Jobs) -> None:
    """A line for each change, the outcome in the exit code; what is unknown or not over in time ends with 1."""
    jobs = quick_jobs
    done, dead, queued = jobs.insert(1, state=State.SUCCEEDED), jobs.insert(2, state=State.DEAD), jobs.insert(3)
    assert f"{done} ledger.canary succeeded" in jobs.text("watch", done)
    assert "dead no luck" in jobs.text("watch", done, dead, code=1)
    seen = jobs("watch", queued, "--timeout", "0.1", code=1)
    assert seen.keys() == {
        "at", "id", "kind", "state", "attempt", "worker", "progress", "progress_text", "error", "result", "ahead",
        "next_try_at",
    }  # fmt: skip
    assert "not all have ended within 0.1 s" in jobs.errors
    assert jobs("watch", "--timeout", "0.1")["id"] == queued
    jobs.text("watch", "ffff", code=1)


def test_dead_letters_by_filter(quick_jobs: Jobs, redis_server: RedisServer) -> None:
    """Listed and tried again by source, kind and reason; a dry run does nothing."""
    jobs = quick_jobs
    for number, reason in enumerate(("no such field", "too large")):
        letter: Any = {
            "v": "1",
            "source": "nightcrew.ledger",
            "kind": "ledger.canary",
            "reason": reason,
            "body": json.dumps({"headers": {"id": f"01931f2e-5f6a-7abc-8def-{number:012}"}, "body": [[], {}, {}]}),
            "received_at": str(time.time()),
        }
        redis_server.client().xadd("nightcrew:dead-letters", letter)
    assert len(jobs("dead", "--kind", "ledger.canary")["dead_letters"]) == 2
    [listed] = jobs("dead", "--reason", "LARGE")["dead_letters"]
    planned = jobs("dead", "--retry-all", "--reason", "large", "--dry-run")
    assert planned["dead_letters"][0].keys() == {"id", "source", "kind", "accepted", "reason"}
    jobs.text("dead", "--retry-all", code=2)
    jobs.text("dead", "--retry-all", "--show", "1", code=2)
    assert len(jobs("dead")["dead_letters"]) == 2
    assert [one["id"] for one in jobs("dead", "--retry-all", "--reason", "large", "--yes")["dead_letters"]] == [
        listed["id"]
    ]
    assert redis_server.client().llen("nightcrew.ledger") == 1
    assert jobs.text("dead", "--retry-all", "--reason", "large", "--yes") == "no dead letter matches\n"


@pytest.mark.parametrize("how", [["--retry", "1"], ["--retry-all", "--yes"]], ids=["one", "all"])
def test_what_nobody_signed_is_tried_again_on_the_operators_word(
    quick_jobs: Jobs, redis_server: RedisServer, how: list[str]
) -> None:
    """Without `--vouch` it is refused and says so, also by a dry run; with it the crew signs."""
    jobs, key = quick_jobs, SigningKey.generate("ours")
    settings = jobs.data_dir / "nightcrew.toml"
    settings.write_text(f'{settings.read_text()}[wire]\nsigning_keys = ["{key.reveal()}"]\n', encoding="utf-8")
    with Nightcrew(redis_server.url) as app:
        app.enqueue(RunCanary(note="x"))
    reconcile_as_the_crew(jobs)
    assert "--vouch" in jobs.text("dead", *how, code=1) + jobs.errors
    planned = [jobs("dead", *how, "--dry-run", *vouch)["dead_letters"] for vouch in ([], ["--vouch"])]
    assert [[one["accepted"] for one in letters] for letters in planned] == [[False], [True]]
    assert redis_server.client().xlen(wire.INTENTS) == 0
    jobs.text("dead", *how, "--vouch")
    [(_, fields)] = cast("Any", redis_server.client().xrange(wire.INTENTS))
    Guard([key]).check_intent(fields)
    assert jobs("dead")["dead_letters"] == []


def reconcile_as_the_crew(jobs: Jobs) -> None:
    with open_crew(jobs.data_dir) as crew:
        reconcile(crew.runtime)


@pytest.mark.parametrize(("answer", "state"), [("y", State.QUEUED), ("n", State.DEAD)])
def test_an_operator_is_asked(quick_jobs: Jobs, answer: str, state: State) -> None:
    """On a terminal the question says how many and what; no is no."""
    jobs = quick_jobs
    dead = jobs.insert(1, state=State.DEAD)
    arguments = ("jobs", "retry", "--state", "dead", "--data-dir", jobs.data_dir)
    with on_terminal([sys.executable, "-m", "workers.cli", *arguments]) as terminal:
        terminal.read_until("1 jobs: 1 would be queued again. Go on? [y/N]", timeout_s=30)
        terminal.type(f"{answer}\n")
        assert terminal.wait(timeout_s=30) == (0 if answer == "y" else 1)
    assert jobs.state(dead) is state


def test_all_jobs_are_watched_until_ctrl_c(quick_jobs: Jobs) -> None:
    """The table has what runs and waits; Ctrl-C is the way to end it, and no error."""
    jobs = quick_jobs
    queued = jobs.insert(1)
    with on_terminal([sys.executable, "-m", "workers.cli", "jobs", "watch", "--data-dir", jobs.data_dir]) as terminal:
        terminal.read_until(queued[:20], timeout_s=30)
        terminal.read_until("0 before it", timeout_s=30)
        terminal.type("\x03")
        assert terminal.wait(timeout_s=30) == 0
