"""The app of the crew's workers with the deeds added: `celery -A tests.chaos.worker_app …`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from celery import signals

from tasks import runtime as runtimes
from tests.chaos import clock, deed_jobs, nightly
from workers.app import app

__all__ = ["app", "deed_jobs"]


def go_by_the_turned_clock(**_: Any) -> None:
    """Take the clock of the test in the place of the machine's; called after the crew's own receivers."""
    turned = clock.TurnedClock(Path(os.environ[clock.VARIABLE]))
    runtimes.install(replace(runtimes.current(), clock=turned.now))


nightly.add_entries(app)
if clock.VARIABLE in os.environ:
    signals.worker_init.connect(go_by_the_turned_clock, weak=False)
    signals.worker_process_init.connect(go_by_the_turned_clock, weak=False)
