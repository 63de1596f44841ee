"""Where a backup is put together before the vault gets it, and what each capture is handed and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  a field
from pathlib import Path  # noqa: TC003  a field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.backups.manifest import ConfigFile, Database, LogPosition, Manifest, Member, Redis


class Progress(Protocol):
    """Hears how far a phase is. It is also the checkpoint: what it raises must pass, and children must be ended."""

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        """Take `done` of `total` (None: not known), in bytes. Cheap: to be called as often as comes easy.

        Raises:
            LeaseLostError: another worker may hold the run by now.
            CancelledError: somebody called the run off.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of the machine a backup may take."""

    nice: int = 10
    """0 to 19, for the engine and the tools."""
    idle_io: bool = True
    """Whether disks serve everybody else first (ionice class `idle`)."""
    upload_kib_s: int | None = None
    """None: as fast as it goes."""
    download_kib_s: int | None = None
    patience_s: float | None = None
    """How long a program may do nothing at all before it is ended; None: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A private, empty directory on a disk with room, and the frame of the work in it."""

    directory: Path
    progress: Progress
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentPoint:
    """The restore point that a delta is against."""

    manifest: Manifest
    fetch: Callable[[str], Path]
    """Gives a member of it by name, from the local cache or from the vault, its hash checked.

    Raises PermanentError when the vault does not have it, TransientError while the vault is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCapture:
    """A captured database: its members lie in the stage."""

    members: Sequence[Member]
    expected: Database
    taken_at: datetime
    """The moment of the snapshot."""
    is_delta: bool
    promoted_because: str | None = None
    """Why it is whole although a delta was asked for."""
    is_unchanged: bool = False
    log_positions: Sequence[LogPosition] = ()
    """From the captured snapshot itself."""
    tools: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCapture:
    """A captured Redis server."""

    members: Sequence[Member]
    expected: Redis
    size_bytes: int
    tools: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesCapture:
    """Captured files."""

    members: Sequence[Member]
    expected: Sequence[ConfigFile]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One point of the chain that is restored: its manifest, and the directory that its members were fetched to."""

    manifest: Manifest
    directory: Path
