"""What the crew needs of a vault: eight verbs. `store/restic/` keeps them; the tests have a plain one that does too.

VaultError
├── VaultUnreachableError   (transient) the place does not answer, or has no room
├── VaultLockedError        (transient) another process uses it
├── VaultPasswordError      (permanent) the password is not that of the vault
├── VaultMissingError       (permanent) there is no vault where the settings say
├── VaultDamagedError       (permanent) what is stored cannot be read back
└── EngineMissingError      (permanent) the program that keeps vaults is not installed
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  a field
from typing import TYPE_CHECKING, Protocol

from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.staging import Progress


class VaultUnreachableError(TransientError):
    """The place of the vault does not answer, or has no room."""


class VaultLockedError(TransientError):
    """Another process uses the vault."""


class VaultPasswordError(PermanentError):
    """The password is not that of the vault."""


class VaultMissingError(PermanentError):
    """There is no vault where the settings say."""


class VaultDamagedError(PermanentError):
    """What the vault stores cannot be read back as it was."""

    def __init__(self, message: str, *, pieces: Collection[str] = ()) -> None:
        """Tell it; `pieces` are what is damaged, as the engine names it: see `Vault.users_of`."""
        super().__init__(message)
        self.pieces = tuple(pieces)


class EngineMissingError(PermanentError):
    """The program that keeps vaults is not installed; the text has the command that installs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many points are kept: the newest of each of so many days, weeks and months."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultPlace:
    """Where a vault is and how it is opened. Nothing of it is ever an argument of a program or a line of a log."""

    name: str
    """`primary` or `second`."""
    location: str
    """A directory, `s3:https://host/bucket/path`, or `rest:https://host/path`; without a password in it."""
    password_file: Path
    """Mode 600, one line."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For the engine alone: keys of S3, the file with the certificate authority."""
    is_append_only: bool = False
    """Whether its keeper refuses deletions: retention then belongs to another machine."""
    retention: Mapping[str, Retention] = field(default_factory=dict)
    """By profile."""
    crew: str | None = None
    """Whose points these are: others in the same place are as if they were not there. None: everybody's are seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What a snapshot says of itself without being opened."""

    point: str
    run: str
    profile: str
    kind: str
    chain: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a vault stores under one name."""

    id: str
    """Whole, as the engine knows it."""
    tags: Tags
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a `put`."""

    snapshot: Snapshot
    added_bytes: int
    """What the vault grew by, compressed and encrypted; what is known, where the engine does not say it exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSize:
    """What a vault takes where it lies."""

    stored_bytes: int
    free_bytes: int | None
    """Left on its disk; None where that cannot be known."""


class Vault(Protocol):
    """A store of snapshots: directories of files, put in whole and never changed.

    Every method raises the errors above. Whoever calls one that writes holds the lease of the vault. A method that is
    given `progress` passes a checkpoint there: when it raises, the engine is ended in a way that leaves no lock.
    """

    place: VaultPlace

    def prepare(self) -> None:
        """Make the vault if its place is empty, check the password if not, and take away locks of dead processes."""

    def put(self, directory: Path, *, tags: Tags, sizes: Mapping[str, int], progress: Progress) -> Stored:
        """Store the files of a directory, and find each of `sizes` (bytes by name) in what was stored.

        Raises:
            VaultDamagedError: the engine says that all went well, and what is stored is not what was given.
        """

    def list(self) -> Sequence[Snapshot]:
        """Name everything stored by a crew, oldest first; what is not ours is left out."""

    def sizes(self, snapshot_id: str) -> Mapping[str, int]:
        """Give the bytes of each file of a snapshot by name."""

    def read(self, snapshot_id: str, name: str) -> bytes:
        """Give a small file of a snapshot, such as the manifest."""

    def get(self, snapshot_id: str, names: Collection[str], to: Path, *, progress: Progress) -> None:
        """Write files of a snapshot into a new directory. The caller checks the hashes: the length proves nothing."""

    def check(self, *, read: tuple[int, int] | None = None, progress: Progress) -> None:
        """Check the structure, and read slice `i` of `n` of the stored data back.

        Raises:
            VaultDamagedError: with what the engine says.
        """

    def users_of(self, pieces: Collection[str], *, progress: Progress) -> Collection[str]:
        """Name the snapshots that need one of these pieces of the vault, as far as that can be found out."""

    def forget(self, snapshot_ids: Collection[str], *, progress: Progress) -> None:
        """Delete snapshots and give their space back; unknown ids are no error."""

    def copy_to(self, other: VaultPlace, snapshot_ids: Collection[str], *, progress: Progress) -> Mapping[str, str]:
        """Copy snapshots with their tags; give the ids that they have there, also of those that were there already."""

    def size(self) -> VaultSize:
        """Measure it."""

    def engine(self) -> str:
        """Name program and version, such as `restic 0.14.0`."""
