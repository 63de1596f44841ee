"""How well the context fits: those of the value's newest uses, and what is used in this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.features.feature import Feature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.past import View

_HALF_LIFE_DAYS: Final = 60.0
_LEAST: Final = 1e-9


def _share(view: View, *by: str) -> NDArray[np.float64]:
    own = view.decayed_uses(*by, "value", half_life_days=_HALF_LIFE_DAYS)
    return own / np.maximum(view.decayed_uses(*by, half_life_days=_HALF_LIFE_DAYS), _LEAST)


FEATURES: Final = (
    Feature(
        name="same_context_5",
        meaning="share of equal parts between the context and those of the entity's last 5 uses of the value",
        compute=lambda view: view.same_context("entity", "value", last=5),
    ),
    Feature(
        name="same_context_1",
        meaning="the same for the last use alone",
        compute=lambda view: view.same_context("entity", "value", last=1),
    ),
    Feature(
        name="share_in_own_context",
        meaning="share of the value in the entity's uses in the same context, half-life 60 days",
        compute=lambda view: _share(view, "entity", "context"),
    ),
    Feature(
        name="share_in_context",
        meaning="share of the value in all uses in the same context, half-life 60 days",
        compute=lambda view: _share(view, "context"),
    ),
)
