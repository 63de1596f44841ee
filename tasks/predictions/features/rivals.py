"""How a candidate stands among those of its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.features.feature import Feature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.past import View

_HALF_LIFE_DAYS: Final = 14.0


def _worth_behind(view: View) -> NDArray[np.float64]:
    return view.behind_best(np.log1p(view.decayed_uses("entity", "value", half_life_days=_HALF_LIFE_DAYS)))


def _context_behind(view: View) -> NDArray[np.float64]:
    return view.behind_best(view.decayed_uses("entity", "context", "value", half_life_days=60.0))


FEATURES: Final = (
    Feature(name="rivals", meaning="candidates of the row", compute=lambda view: view.per_row().astype(np.float64)),
    Feature(
        name="worth_behind",
        meaning="decayed uses of the value by the entity, log(1 + n), less those of the row's best candidate",
        compute=_worth_behind,
    ),
    Feature(
        name="context_behind",
        meaning="decayed uses of the value by the entity in the same context, less those of the row's best candidate",
        compute=_context_behind,
    ),
)
