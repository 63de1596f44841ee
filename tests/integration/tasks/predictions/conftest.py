"""A shelf with one small model on it."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.predictions.operations import shelf_of, train

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.predictions.operations import Trained
    from tasks.predictions.store.models import ModelShelf

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Crew:
    """A data directory whose active model was taught with a file."""

    directory: Path
    file: Path
    trained: Trained

    @property
    def shelf(self) -> ModelShelf:
        return shelf_of(self.directory)

    @property
    def version(self) -> str:
        return self.trained.manifest.version

    def place(self, name: str) -> Path:
        """Give a file of the model."""
        return self.directory / "models" / self.version / name


def write_uses(file: Path, *, seed: int, count: int = 1_500, habit: str = "a") -> Path:
    """Write uses of which a model can learn more than a rule: each person's value goes by the place."""
    chance = random.Random(seed)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    lines = ["ts,known_at,entity,context,value,accepted\n"]
    for _ in range(count):
        at += timedelta(minutes=chance.randrange(1, 60))
        person, place = chance.randrange(12), chance.choice(["home", "office"])
        value = (
            f"{habit}{(person + (place == 'home')) % 5}" if chance.random() < 0.97 else f"{habit}{chance.randrange(5)}"
        )
        known = at + timedelta(hours=6)
        lines.append(f"{at.isoformat()},{known.isoformat()},p{person},{place},{value},{int(chance.random() < 0.8)}\n")
    file.write_text("".join(lines), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Crew:
    """Train once for all tests; they work on copies."""
    directory = tmp_path_factory.mktemp("taught")
    file = write_uses(directory / "uses.csv", seed=1)
    trained = train(shelf_of(directory / "data"), file, now=NOW)
    assert trained.promoted, trained.reason
    return Crew(directory=directory / "data", file=file, trained=trained)


@pytest.fixture
def crew(taught: Crew, tmp_path: Path) -> Crew:
    """Give a copy of the data directory, to be damaged."""
    shutil.copytree(taught.directory, tmp_path / "data")
    return Crew(directory=tmp_path / "data", file=taught.file, trained=taught.trained)
