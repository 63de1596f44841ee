"""The same for each part of the context: place, weekday and hour say more apart than together where uses are few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.features.feature import PartFeature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.past import View

_HALF_LIFE_DAYS: Final = 60.0
_LEAST: Final = 1e-9


def _share(view: View, *by: str) -> NDArray[np.float64]:
    own = view.decayed_uses(*by, "value", half_life_days=_HALF_LIFE_DAYS)
    return own / np.maximum(view.decayed_uses(*by, half_life_days=_HALF_LIFE_DAYS), _LEAST)


def _is_newest(view: View, *by: str) -> NDArray[np.float64]:
    same: NDArray[np.float64] = (view.newest(*by, column="value") == view.candidates.columns["value"]).astype(float)
    return same


FEATURES: Final = (
    PartFeature(
        name="share_with_part",
        meaning="share of the value in all uses with the same part of the context, half-life 60 days",
        compute=_share,
    ),
    PartFeature(
        name="own_share_with_part",
        meaning="the same of the entity's uses",
        compute=lambda view, part: _share(view, "entity", part),
    ),
    PartFeature(
        name="is_last_with_part",
        meaning="1 for the value that the entity used last with the same part of the context",
        compute=lambda view, part: _is_newest(view, "entity", part),
    ),
)
