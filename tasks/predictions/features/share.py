"""How much of what the entity used lately was this value, with exponential decay at three speeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.features.feature import Feature

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tasks.predictions.past import View

_HALF_LIVES_DAYS: Final = (3.0, 14.0, 90.0)
_LEAST: Final = 1e-9


def _share(half_life_days: float) -> Callable[[View], NDArray[np.float64]]:
    def compute(view: View) -> NDArray[np.float64]:
        own = view.decayed_uses("entity", "value", half_life_days=half_life_days)
        return own / np.maximum(view.decayed_uses("entity", half_life_days=half_life_days), _LEAST)

    return compute


def _activity(half_life_days: float) -> Callable[[View], NDArray[np.float64]]:
    def compute(view: View) -> NDArray[np.float64]:
        return np.log1p(view.decayed_uses("entity", half_life_days=half_life_days))

    return compute


FEATURES: Final = (
    *(
        Feature(
            name=f"share_{days:g}d",
            meaning=f"share of the value in the entity's uses, half-life {days:g} days",
            compute=_share(days),
        )
        for days in _HALF_LIVES_DAYS
    ),
    *(
        Feature(
            name=f"activity_{days:g}d",
            meaning=f"uses of anything by the entity, half-life {days:g} days, log(1 + n)",
            compute=_activity(days),
        )
        for days in _HALF_LIVES_DAYS
    ),
)
