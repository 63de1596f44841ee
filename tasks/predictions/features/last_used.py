"""Whether it was the last one: the simple rule, as a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.predictions.features.feature import Feature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.predictions.past import View


def _is_newest(view: View, *by: str) -> NDArray[np.float64]:
    same: NDArray[np.float64] = (view.newest(*by, column="value") == view.candidates.columns["value"]).astype(float)
    return same


FEATURES: Final = (
    Feature(
        name="is_last",
        meaning="1 for the value that the entity used last",
        compute=lambda view: _is_newest(view, "entity"),
    ),
    Feature(
        name="is_last_in_context",
        meaning="1 for the value that the entity used last in the same context",
        compute=lambda view: _is_newest(view, "entity", "context"),
    ),
)
