"""Shows in Flower how far a job is: an event of its own, whose text stands beside the job while it runs."""

from __future__ import annotations

import structlog
from celery import current_app

_log = structlog.get_logger(__name__)


def show_progress(share: float, text: str) -> None:
    """Send the event for the job that this thread works on; without one, do nothing.

    Flower takes the state of a job from the name of the event, here PROGRESS, and shows `result` beside it; a result of
    Celery's own would not be shown before the job ends (https://github.com/mher/flower/issues/453).
    """
    if (task := current_app.current_task) is None:
        return
    try:
        task.send_event("task-progress", result=f"{share:.0%} {text}", pct=round(100 * share))
    except Exception as error:  # noqa: BLE001  what kombu raises depends on the transport, and a look is worth no job
        _log.warning("job.progress_not_shown", reason=str(error))
