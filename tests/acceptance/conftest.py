"""A running crew for each module of tests."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nightcrew import Nightcrew
from tests.support.databases import opened_engine
from tests.support.processes import short_directory
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCrew:
    """A crew, its directory, its database and an app of it."""

    directory: Path
    process: CrewProcess
    engine: Engine
    app: Nightcrew


@contextmanager
def running_crew(env: Mapping[str, str]) -> Iterator[RunningCrew]:
    """Run one during the block, without Flower."""
    with short_directory() as directory, CrewProcess(directory, with_flower=False, env=env) as process:
        url = process.wait_ready().broker_url
        with opened_engine(f"sqlite:///{directory / 'nightcrew.db'}") as engine, Nightcrew(url) as app:
            yield RunningCrew(directory=directory, process=process, engine=engine, app=app)


@pytest.fixture(scope="module")
def crew(request: pytest.FixtureRequest) -> Iterator[RunningCrew]:
    """Give the crew of the module; its settings are those that the module names in `SETTINGS`."""
    with running_crew(getattr(request.module, "SETTINGS", {})) as running:
        yield running
