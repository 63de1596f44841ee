"""What a new point is worth beside those before it: its state, and how long a restore of it should take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.backups.forecast import predict, workload_of
from tasks.backups.lineage import BrokenLineageError, Lineage
from tasks.backups.points import PointState
from tasks.backups.shrinking import judge_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.forecast import MeasuredRestore
    from tasks.backups.points import RestorePoint


def assess(
    point: RestorePoint,
    before: Sequence[RestorePoint],
    *,
    shrink_share: float,
    measured: Sequence[MeasuredRestore] = (),
) -> RestorePoint:
    """Give the point with its state and its forecast; one that is damaged stays so, and has a forecast only if whole.

    `before` are all that are known, in any order; `measured` are restores, the newest first.
    """
    others = [other for other in before if other.id != point.id]
    judgement = judge_size(point, others, shrink_share=shrink_share)
    if judgement.is_suspect and point.state is PointState.STORED:
        point = replace(point, state=PointState.SUSPECT, state_reason=judgement.reason)
    try:
        path = Lineage([*others, point]).path_to(point.id)
    except BrokenLineageError:
        return replace(point, predicted_rto_s=None)
    return replace(point, predicted_rto_s=predict(workload_of(path), measured).seconds)
