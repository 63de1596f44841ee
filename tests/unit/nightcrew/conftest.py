"""A counter whose log is a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightcrew.usage import UsageCounter
from tests.unit.nightcrew.log_in_memory import Clock, LogInMemory

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log() -> LogInMemory:
    return LogInMemory()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counter(log: LogInMemory, clock: Clock) -> Iterator[UsageCounter]:
    counter = UsageCounter(log.append, flush_interval_s=0.02, clock=clock)
    yield counter
    log.away = False
    counter.close()
