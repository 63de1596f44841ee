"""What a model is told of each candidate: one number a feature, and nothing but the past to take it from.

To add one: a file beside these with a `FEATURE`, and its name in `FEATURES`. Its meaning goes into the manifest of the
models that learn it; the test of leakage (`tests/unit/tasks/predictions/test_leakage.py`) covers it by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.features import age, context, last_used, parts, popularity, rivals, share, success, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tasks.predictions.features.feature import Feature, PartFeature
    from tasks.predictions.past import View

FEATURES: Final[tuple[Feature | PartFeature, ...]] = (
    *usage.FEATURES,
    *share.FEATURES,
    *age.FEATURES,
    *success.FEATURES,
    *last_used.FEATURES,
    *context.FEATURES,
    *parts.FEATURES,
    *popularity.FEATURES,
    *rivals.FEATURES,
)


def column_names(part_count: int, features: Sequence[Feature | PartFeature] = FEATURES) -> list[str]:
    """Name the columns of the matrix, for contexts of that many parts."""
    return [name for feature in features for name in feature.columns(part_count)]


def feature_matrix(
    view: View, part_count: int, features: Sequence[Feature | PartFeature] = FEATURES
) -> NDArray[np.float32]:
    """Compute all features of the candidates of a view: one row a candidate, one column a feature."""
    columns = [column for feature in features for column in feature.compute_all(view, part_count)]
    if not columns:
        return np.zeros((len(view.candidates), 0), dtype=np.float32)
    return np.stack(columns, axis=1, dtype=np.float32, casting="same_kind")
