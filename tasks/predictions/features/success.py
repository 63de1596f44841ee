"""How often it turned out right: the share among the newest known outcomes, with a prior for what has few."""

from __future__ import annotations

from typing import Final

from tasks.predictions.features.feature import Feature

_PRIOR: Final = 0.5

FEATURES: Final = (
    Feature(
        name="success_20",
        meaning="share that was right of the last 20 known outcomes of the value for the entity, prior 1/2 as of four",
        compute=lambda view: view.accepted_share("entity", "value", last=20, prior=_PRIOR, strength=4),
    ),
    Feature(
        name="success_3",
        meaning="the same of the last 3, prior as of one",
        compute=lambda view: view.accepted_share("entity", "value", last=3, prior=_PRIOR, strength=1),
    ),
)
