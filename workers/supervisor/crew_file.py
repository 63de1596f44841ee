"""`<data>/run/crew.json`: what a running crew says about itself, for other processes of the same user."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "crew.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerAddress:
    """Where Flower is; its password stays in the file `flower.password`."""

    url: str
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewRecord:
    """A crew as it is now."""

    pid: int
    """The supervisor."""
    broker_url: str = field(repr=False)
    """Never with a password: one stands where the settings are, and the crew's own broker has none."""
    flower: FlowerAddress | None
    children: dict[str, int]
    """Process ids by name; one that is between death and restart is left out."""
    ready: tuple[str, ...]
    """Names of the children that take work."""
    complete: bool
    """Whether all of them do."""
    restarts: dict[str, int]
    """How often each child was started again."""
    started_at: datetime


def write_record(path: Path, record: CrewRecord) -> None:
    """Replace the file in one step; only this user can read it."""
    document = {**asdict(record), "started_at": record.started_at.isoformat()}
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
    new.replace(path)


def read_record(path: Path) -> CrewRecord | None:
    """Give what the crew wrote last; None where no crew has started, or it has stopped in order.

    A crew that was killed leaves its record: ask whether `pid` runs.

    Raises:
        ValueError: the file is not such a record.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    flower = document.pop("flower")
    return CrewRecord(
        flower=FlowerAddress(**flower) if flower else None,
        started_at=datetime.fromisoformat(document.pop("started_at")),
        ready=tuple(document.pop("ready")),
        **document,
    )
