"""What the decorators make of a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from celery import Celery

from nightcrew.messages import FireSchedule, RunCanary
from tasks.job import definition_of
from tasks.ledger.jobs import fire_schedule, run_canary

if TYPE_CHECKING:
    from tasks.runtime import Runtime


def test_decorated_function_stays_plain() -> None:
    """A job is called directly with its message, without Celery."""
    nothing_needed = cast("Runtime", None)
    assert run_canary(RunCanary(note="hello"), nothing_needed) == {"note": "hello"}


def test_kind_finds_its_job() -> None:
    """A job is registered under the kind of its message, and a doorbell is marked as one."""
    assert definition_of("ledger.canary").function is run_canary
    assert definition_of(FireSchedule.kind).function is fire_schedule
    assert [definition_of(kind).row_optional for kind in ("ledger.canary", "schedules.fire")] == [False, True]
    with pytest.raises(LookupError):
        definition_of("no.such")


def test_celery_task_is_named_after_the_kind() -> None:
    """Any app that finalizes gets the task: acknowledged late, without a result, described by its own words."""
    app = Celery("test", set_as_current=False)
    app.finalize()
    task = app.tasks["ledger.canary"]
    assert (task.acks_late, task.ignore_result, task.max_retries) == (True, True, None)
    assert task.run.__doc__ == run_canary.__doc__
