"""How long a restore is expected to take, from request to validated.

    seconds = START_S * points + WRITE_S_PER_BYTE * size + APPLY_S_PER_BYTE * size * deltas
              + FETCH_S_PER_BYTE * delta bytes + VALIDATE_S_PER_BYTE * size

The constants are the slowest wall times of a series on two cores at a load of 6 to 9, with 888.9 MB of SQLite and
358 MB of PostgreSQL, so that a quiet machine is faster. Restores that were measured here scale them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.points import RestorePoint

_SQLITE_BYTES: Final = 888.9e6
_POSTGRESQL_BYTES: Final = 358e6

START_S: Final = 1.0
"""Opening the vault for one point: a check of the metadata alone took 0.95 s."""
WRITE_S_PER_BYTE: Final = 12.7 / _POSTGRESQL_BYTES
"""`pg_restore -j2` took 12.7 s; restic took at most 15.7 s for the larger SQLite file, half of that per byte."""
APPLY_S_PER_BYTE: Final = 8.5 / _SQLITE_BYTES
"""Applying a delta, SHA-256 of the whole file and fsync took 8.5 s, whatever the size of the delta."""
FETCH_S_PER_BYTE: Final = 15.7 / _SQLITE_BYTES
"""Reading a delta from the vault, at the rate of a restore."""
VALIDATE_S_PER_BYTE: Final = (2.9 + 4.1 + 16.6) / _SQLITE_BYTES
"""`quick_check`, `foreign_key_check`, and `integrity_check` for reading every row."""

FEWEST_TO_TRUST: Final = 3
"""Fewer measured restores than this make a forecast longer, never shorter."""
NEWEST_USED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a restore has to do."""

    size_bytes: int
    """What it writes in the end."""
    deltas: int = 0
    delta_bytes: int = 0
    """All deltas together, as the vault has them."""

    def __post_init__(self) -> None:
        if min(self.size_bytes, self.deltas, self.delta_bytes) < 0:
            msg = f"a restore cannot have less than nothing to do: {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRestore:
    """A restore that went through to the end of its validation."""

    work: Workload
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How long a restore is expected to take."""

    seconds: float
    basis: str
    """What it was worked out from."""


def workload_of(path: Sequence[RestorePoint]) -> Workload:
    """Say what the restore of the last point of a path has to do.

    Raises:
        ValueError: the path is empty.
    """
    if not path:
        msg = "a path of no points restores nothing"
        raise ValueError(msg)
    deltas = path[1:]
    return Workload(
        size_bytes=path[-1].size_bytes,
        deltas=len(deltas),
        delta_bytes=sum(point.chain_bytes for point in deltas),
    )


def predict(work: Workload, measured: Sequence[MeasuredRestore] = ()) -> Forecast:
    """Predict how long a restore takes; `measured` begins with the newest.

    The scale is the second slowest of the newest restores, each compared with what the constants say of it: one that
    ran beside something else does not rule, two do.
    """
    ratios = sorted(restore.seconds / _seconds(restore.work) for restore in measured[:NEWEST_USED])
    seconds = _seconds(work)
    if not ratios:
        return Forecast(seconds=seconds, basis="rates of a series on a loaded machine")
    if len(ratios) < FEWEST_TO_TRUST:
        basis = f"{len(ratios)} measured, at least the rates of a series on a loaded machine"
        return Forecast(seconds=seconds * max(1.0, ratios[-1]), basis=basis)
    return Forecast(seconds=seconds * ratios[-2], basis=f"{len(ratios)} measured restores")


def _seconds(work: Workload) -> float:
    per_byte = WRITE_S_PER_BYTE + VALIDATE_S_PER_BYTE + APPLY_S_PER_BYTE * work.deltas
    return START_S * (1 + work.deltas) + per_byte * work.size_bytes + FETCH_S_PER_BYTE * work.delta_bytes
