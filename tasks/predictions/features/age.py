"""How long ago: seconds since the newest use, on a log scale; what was never used is thirty years old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.features.feature import Feature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.past import View

_OLDEST_S: Final = 1e9


def _log_age(view: View, *by: str) -> NDArray[np.float64]:
    return np.log1p(np.minimum(view.age_s(*by), _OLDEST_S))


FEATURES: Final = (
    Feature(
        name="log_age",
        meaning="seconds since the entity used the value, log(1 + s)",
        compute=lambda view: _log_age(view, "entity", "value"),
    ),
    Feature(
        name="log_age_behind",
        meaning="the same less that of the entity's newest use of anything: 0 for the value used last",
        compute=lambda view: _log_age(view, "entity", "value") - _log_age(view, "entity"),
    ),
)
