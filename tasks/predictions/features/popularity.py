"""How usual a value is for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.features.feature import Feature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.past import View

_HALF_LIFE_DAYS: Final = 60.0


def _rarity(view: View) -> NDArray[np.float64]:
    """Compare with the most usual candidate of the row: counts themselves grow with the data and would drift."""
    return view.behind_best(np.log1p(view.decayed_uses("value", half_life_days=_HALF_LIFE_DAYS)))


FEATURES: Final = (
    Feature(
        name="log_popularity_behind",
        meaning="uses of the value by anybody, half-life 60 days, log(1 + n), less the greatest of the row",
        compute=_rarity,
    ),
)
