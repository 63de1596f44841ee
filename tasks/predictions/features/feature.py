"""What a feature is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from tasks.predictions.past import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A number for each candidate, from what was to be seen of the past at its instant."""

    name: str
    meaning: str
    compute: Callable[[View], NDArray[np.float64]]

    def columns(self, part_count: int) -> list[str]:
        """Name its columns."""
        del part_count
        return [self.name]

    def compute_all(self, view: View, part_count: int) -> Iterator[NDArray[np.float64]]:
        """Compute its columns."""
        del part_count
        yield self.compute(view)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFeature:
    """The same for each part of the context, as a column each."""

    name: str
    meaning: str
    compute: Callable[[View, str], NDArray[np.float64]]

    def columns(self, part_count: int) -> list[str]:
        """Name its columns."""
        return [f"{self.name}_{part}" for part in range(part_count)]

    def compute_all(self, view: View, part_count: int) -> Iterator[NDArray[np.float64]]:
        """Compute its columns."""
        for part in range(part_count):
            yield self.compute(view, f"part{part}")
