"""An older copy of the database is put back: the log brings it up to date, to the last count."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew import Nightcrew
from tests.acceptance.commands import ask
from tests.support import wait_until
from tests.support.processes import short_directory
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE_S = "60"
_RESET, _KEPT = "key.reset", "key.kept"


class Story:
    """Two runs of a crew, and what the database was after each."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.database = data_dir / "nightcrew.db"
        self._older = data_dir / "older.db"
        with self.crew() as app:
            count(app, rounds=1)
            self.wait_until_counted()
        shutil.copyfile(self.database, self._older)
        self.older = self.counts()
        with self.crew() as app:
            count(app, rounds=2)
            ask("usage", "reset", _RESET, data_dir=data_dir)
            count(app, rounds=1)
            self.wait_until_counted()
        self.newer = self.counts()
        self.history = self.hours()

    @contextmanager
    def crew(self) -> Iterator[Nightcrew]:
        with CrewProcess(self.data_dir, with_flower=False) as process:
            with Nightcrew(process.wait_ready().broker_url) as app:
                yield app
            assert process.stop() == 0

    def put_older_back(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(self._older, self.database)
        assert self.counts() == self.older

    def wait_until_counted(self) -> None:
        ask("usage", "snapshot", "--wait", _PATIENCE_S, data_dir=self.data_dir)

    def counts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask("usage", "snapshot", data_dir=self.data_dir)["counts"]
        return found

    def hours(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask("usage", "history", _RESET, data_dir=self.data_dir)["hours"]
        return found


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with short_directory() as directory:
        yield Story(directory)


def test_the_story_makes_a_difference(story: Story) -> None:
    """Otherwise the replay would prove nothing."""
    totals = {(row["key"], row["context"]): row["total"] for row in story.newer}
    assert totals[_RESET, "fr"] == 100
    assert totals[_KEPT, ""] == 4 * 7
    assert story.newer != story.older
    assert sum(hour["total"] for hour in story.history) == 4 * 100


def test_replay_needs_no_running_crew(story: Story) -> None:
    """`usage replay` starts the broker alone, applies what is missing, and says what it did."""
    story.put_older_back()
    report = ask("usage", "replay", data_dir=story.data_dir)
    (partition,) = report["partitions"]
    assert partition["entries"] > 0
    assert partition["from"] != partition["to"]
    assert report["totals"]["history"] == sum(hour["total"] for hour in story.history) + 4 * 7
    assert (story.counts(), story.hours()) == (story.newer, story.history)


def test_a_second_replay_changes_nothing(story: Story) -> None:
    """What the counts contain already is not applied again."""
    (partition,) = ask("usage", "replay", data_dir=story.data_dir)["partitions"]
    assert (partition["entries"], partition["from"]) == (0, partition["to"])
    assert story.counts() == story.newer


@pytest.mark.long
def test_a_crew_that_starts_replays_by_itself(story: Story) -> None:
    """Nobody rings: the worker asks for a drain when it starts."""
    story.put_older_back()
    with story.crew():
        wait_until(lambda: story.counts() == story.newer, timeout_s=90, what="the newer counts")
    assert story.hours() == story.history


def count(app: Nightcrew, *, rounds: int) -> None:
    for _ in range(rounds):
        for number in range(100):
            app.usage.increment(_RESET, context="fr", accepted=number % 3 == 0)
        app.usage.increment_many({_KEPT: 7})
        app.usage.flush()
