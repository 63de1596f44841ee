"""Messages of the backups."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from nightcrew.errors import InvalidMessageError
from nightcrew.messages.base import Message

DeltaBase = Literal["previous", "full"]
"""What a delta is against: the newest point of the chain, or the full that the chain begins with."""

_PROFILE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_POINT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MOST_SLICES = 256  # more slices than restic has (a byte names one)


@dataclass(frozen=True, kw_only=True)
class RunFullBackup(Message):
    """Take a restore point that needs no other one."""

    kind: ClassVar[str] = "backups.full"
    queue: ClassVar[str] = "nightcrew.backups"

    profile: str = "default"
    """Which of the profiles in the settings: what is taken and how long it is kept."""

    def __post_init__(self) -> None:
        _check_profile(self.profile)


@dataclass(frozen=True, kw_only=True)
class RunIncrementalBackup(Message):
    """Take a restore point that holds only what has changed; the crew makes it a full one where that is not safe."""

    kind: ClassVar[str] = "backups.incremental"
    queue: ClassVar[str] = "nightcrew.backups"

    profile: str = "default"
    base: DeltaBase = "previous"
    """`previous` for an incremental; `full` for a differential, which is larger, and two steps to restore."""

    def __post_init__(self) -> None:
        _check_profile(self.profile)
        if self.base not in get_args(DeltaBase):
            msg = f"base must be one of {', '.join(get_args(DeltaBase))}, not {self.base!r}"
            raise InvalidMessageError(msg)


@dataclass(frozen=True, kw_only=True)
class VerifyVault(Message):
    """Check the structure of the vault, and read a slice of what it stores."""

    kind: ClassVar[str] = "backups.verify"
    queue: ClassVar[str] = "nightcrew.backups"

    slices: int = 30
    """The stored data is read in this many slices, one a run in turn; 1 reads everything, 0 nothing."""

    def __post_init__(self) -> None:
        if type(self.slices) is not int or not 0 <= self.slices <= _MOST_SLICES:
            msg = f"slices must be a whole number from 0 to {_MOST_SLICES}, not {self.slices!r}"
            raise InvalidMessageError(msg)


@dataclass(frozen=True, kw_only=True)
class PruneVault(Message):
    """Delete the restore points that the retention lets go, and give their space back."""

    kind: ClassVar[str] = "backups.prune"
    queue: ClassVar[str] = "nightcrew.backups"

    dry_run: bool = False
    """Decide and say why, and delete nothing."""

    def __post_init__(self) -> None:
        if type(self.dry_run) is not bool:
            msg = f"dry_run must be true or false, not {self.dry_run!r}"
            raise InvalidMessageError(msg)


@dataclass(frozen=True, kw_only=True)
class CopyToSecondVault(Message):
    """Copy what the second vault does not have yet, and check it there."""

    kind: ClassVar[str] = "backups.copy"
    queue: ClassVar[str] = "nightcrew.backups"


@dataclass(frozen=True, kw_only=True)
class DrillRestore(Message):
    """Restore a point into a sandbox, compare it with what it was, and see that damage would have been noticed."""

    kind: ClassVar[str] = "backups.drill"
    queue: ClassVar[str] = "nightcrew.backups"

    point: str | None = None
    """Which point: the beginning of its id, or a nickname such as `latest`. None: the one whose proof is most due."""
    cold: bool = False
    """Restore as on a bare machine: a fresh process, an empty cache, the recovery kit alone, no source in reach."""

    def __post_init__(self) -> None:
        if self.point is not None:
            _check_point(self.point)
        if type(self.cold) is not bool:
            msg = f"cold must be true or false, not {self.cold!r}"
            raise InvalidMessageError(msg)


def _check_profile(profile: object) -> None:
    if not isinstance(profile, str) or not _PROFILE.fullmatch(profile):
        msg = f"profile must be a name in kebab case of at most 32 characters, not {profile!r}"
        raise InvalidMessageError(msg)


def _check_point(point: object) -> None:
    if not isinstance(point, str) or not _POINT.fullmatch(point):
        msg = f"point must be the beginning of an id or a nickname such as 'latest', not {point!r}"
        raise InvalidMessageError(msg)
