"""An app that is newer than its crew: what it asks for is kept whole, and done when the crew has caught up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, wire
from nightcrew.messages import ReconcileLedger
from tasks.ledger.operations import list_dead_letters, retry_dead_letter
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read
from tests.acceptance.commands import run_nightcrew
from tests.chaos.apps import ROOT
from tests.chaos.deeds import DEEDS, METADATA, QUEUE, DoDeed
from tests.integration.workers.wire.crew import process_environment, running_worker
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.runtime import Runtime
    from tests.support.redis import RedisServer


def reconcile(app: Nightcrew) -> None:
    """Let the worker take in intents and letters."""
    app.enqueue(ReconcileLedger()).result(timeout_s=20)


@pytest.mark.long
def test_a_kind_that_comes_later(redis_server: RedisServer, tmp_path: Path) -> None:
    """Message and intent are both kept; trying again says why not yet, and after the upgrade does it once."""
    url, redis = redis_server.url, redis_server.client()
    upgraded: Any = {"app": "tests.chaos.worker_app", "env": {"PYTHONPATH": str(ROOT)}}
    with Nightcrew(url) as app:
        with running_worker(tmp_path, broker_url=url, redis=redis):
            job = app.enqueue(DoDeed(padding="§"))
            reconcile(app)
            numbers = check_letters(tmp_path, url, job.id)
        with running_worker(tmp_path, broker_url=url, redis=redis, **upgraded):
            runtime = build_runtime(load_settings(tmp_path, env={}), broker_url=url, worker_name="test")
            METADATA.create_all(runtime.engine)
            for number in numbers:
                retry_dead_letter(runtime, number)
            job.result(timeout_s=20)
            reconcile(app)
            assert not list_dead_letters(runtime)
            assert done(runtime, job.id) == ([{"padding": "§"}], 1)
            close_runtime(runtime)


def check_letters(data_dir: Path, broker_url: str, job_id: str) -> list[int]:
    """Look at both letters with the crew's own command, which knows as little as the crew; give their numbers."""
    env = process_environment(data_dir, broker_url)
    letters = run_nightcrew("jobs", "dead", "--json", data_dir=data_dir, env=env).document["dead_letters"]
    assert sorted(letter["source"] for letter in letters) == [QUEUE, wire.INTENTS]
    for letter in letters:
        assert (letter["kind"], letter["job_id"]) == (DoDeed.kind, job_id)
        refused = run_nightcrew("jobs", "dead", "--retry", str(letter["id"]), data_dir=data_dir, env=env)
        assert refused.code == 1
        assert "unknown kind 'chaos.deed'" in refused.errors
    after = run_nightcrew("jobs", "dead", "--json", data_dir=data_dir, env=env).document["dead_letters"]
    assert after == letters
    return [letter["id"] for letter in letters]


def done(runtime: Runtime, job_id: str) -> tuple[list[Any], int]:
    """Give the payloads of the job's runs, and how often it was done."""
    with begin_read(runtime.engine) as connection:
        payloads = connection.scalars(sa.select(JobRun.payload).where(JobRun.id == job_id)).all()
        return list(payloads), connection.execute(sa.select(sa.func.count()).select_from(DEEDS)).scalar_one()
