"""What restic says when all goes well: its version, its JSON, how far it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.vaults import Snapshot, Tags
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Version = tuple[int, int, int]

OLDEST: Final = (0, 14)
"""The first with compression, and with chunks that two vaults cut alike."""

_VERSION: Final = re.compile(r"restic (\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A snapshot of ours, and where it comes from."""

    snapshot: Snapshot
    origin: str
    """Id of the snapshot that it was copied from, or its own: the same in every vault that has a copy."""
    crew: str
    """Who has stored it."""


def version_of(text: str) -> Version:
    """Read what `restic version` says: the same line in every release, while `--json` came with 0.17.

    Raises:
        PermanentError: it is no restic, or one that is too old.
    """
    if (found := _VERSION.search(text)) is None:
        msg = f"this is no restic: {text.strip()[:80]!r}"
        raise PermanentError(msg)
    major, minor, patch = int(found[1]), int(found[2]), int(found[3] or 0)
    if (major, minor) < OLDEST:
        msg = f"restic {major}.{minor} is too old: 0.14 or newer is needed"
        raise PermanentError(msg)
    return major, minor, patch


def listed_from(found: Any) -> Listed | None:
    """Read one of `restic snapshots --json`; None for what no crew has stored."""
    tags = dict(tag.partition(":")[::2] for tag in found.get("tags") or [])
    try:
        ours = Tags(
            point=tags["point"],
            run=tags["run"],
            profile=tags["profile"],
            kind=tags["kind"],
            chain=tags["chain"],
            sequence=int(tags["seq"]),
        )
    except (KeyError, ValueError):
        return None
    snapshot = Snapshot(id=found["id"], tags=ours, stored_at=instant(found["time"]))
    return Listed(snapshot=snapshot, origin=found.get("original") or snapshot.id, crew=found.get("hostname", ""))


def tag_list(tags: Tags) -> list[str]:
    """Spell tags as restic keeps them."""
    return [
        f"point:{tags.point}",
        f"run:{tags.run}",
        f"profile:{tags.profile}",
        f"kind:{tags.kind}",
        f"chain:{tags.chain}",
        f"seq:{tags.sequence}",
    ]


def instant(text: str) -> datetime:
    """Read an instant of Go's, which has up to nine digits of a second."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def json_lines(lines: Iterable[str]) -> list[Any]:
    """Read lines of JSON; what is none is left out."""
    return [json.loads(line) for line in lines if line.startswith(("{", "["))]


def sizes_from(nodes: Iterable[Any]) -> dict[str, int]:
    """Give the bytes by name that `restic ls --json` tells; it leaves out the size of an empty file."""
    return {node["path"].lstrip("/"): node.get("size", 0) for node in nodes if node.get("type") == "file"}


class BackupTeller:
    """Hears what `restic backup --json` says while it works, passes it on, and keeps its summary."""

    def __init__(self, tell: Callable[[int, int], None], total: int) -> None:
        self._tell = tell
        self._done, self._total = 0, total
        self.summary: dict[str, Any] | None = None

    def __call__(self, line: str) -> None:
        """Take a line."""
        try:
            said = json.loads(line)
        except ValueError:
            return
        if said.get("message_type") == "status":
            self._done = min(self._total, max(self._done, said.get("bytes_done", 0)))
            self.tick()
        elif said.get("message_type") == "summary":
            self.summary = said

    def tick(self) -> None:
        """Tell again how far it is, for whoever may want it to stop."""
        self._tell(self._done, self._total)
