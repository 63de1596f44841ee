"""How often: the count of uses, on a log scale: ten uses more mean much to a new value and nothing to an old one."""

from __future__ import annotations

from typing import Final

import numpy as np

from tasks.predictions.features.feature import Feature

FEATURES: Final = (
    Feature(
        name="log_uses",
        meaning="uses of the value by the entity, log(1 + n)",
        compute=lambda view: np.log1p(view.uses("entity", "value")),
    ),
    Feature(
        name="log_entity_uses",
        meaning="uses of anything by the entity, log(1 + n): how well it is known at all",
        compute=lambda view: np.log1p(view.uses("entity")),
    ),
)
