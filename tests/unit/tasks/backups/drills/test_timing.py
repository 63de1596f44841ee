"""How long restores took, and what that says of the next one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.backups.drills.timing import Bucket, Spread, bucket_of, measured_restores, predict_newest, restore_times
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.forecast import predict, workload_of
from tasks.backups.promotion import Situation, decide_kind
from tasks.runtime import BackupOptions, VaultOptions
from tests.unit.tasks.backups.drills.drilled import drill
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW, chain, damaged, full

TARGET = timedelta(minutes=15)
OPTIONS = BackupOptions(directory=Path(), vault=VaultOptions(location="", password_file=Path()))


def test_percentiles_are_values_that_were_measured() -> None:
    """Of twenty, the tenth and the nineteenth; of few, the slowest stands for nearly all."""
    assert Spread.of(float(number) for number in range(20, 0, -1)) == Spread(p50_s=10.0, p95_s=19.0)
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(p50_s=2.0, p95_s=3.0)
    assert Spread.of([7.0]) == Spread(p50_s=7.0, p95_s=7.0)
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


@pytest.mark.parametrize(
    ("size_bytes", "sequence", "size", "depth"),
    [
        (0, 0, "up to 100 MB", "no deltas"),
        (100_000_000, 1, "up to 100 MB", "1 to 3 deltas"),
        (100_000_001, 3, "up to 1 GB", "1 to 3 deltas"),
        (10_000_000_000, 4, "up to 10 GB", "4 to 9 deltas"),
        (10_000_000_001, 10, "over 10 GB", "10 deltas and more"),
    ],
)
def test_restores_are_told_apart_by_size_and_depth(size_bytes: int, sequence: int, size: str, depth: str) -> None:
    """A limit belongs to the smaller bucket."""
    bucket = bucket_of(drill(size_bytes=size_bytes, sequence=sequence))
    assert (bucket.size_text, bucket.depth_text) == (size, depth)


def test_times_are_split_and_sorted() -> None:
    """Small and shallow ones first; each part of the time has its own spread."""
    drills = [drill(100.0, sequence=5), *[drill(float(number)) for number in (10, 20, 40)]]
    shallow, deep = restore_times(drills)
    assert (shallow.bucket, shallow.restores) == (Bucket(size=0, depth=0), 3)
    assert (deep.bucket, deep.restores, deep.total.p50_s) == (Bucket(size=0, depth=2), 1, 100.0)
    assert shallow.total == Spread(p50_s=20.0, p95_s=40.0)
    assert (shallow.fetch.p50_s, shallow.apply.p50_s, shallow.validate.p50_s) == pytest.approx((2.0, 6.0, 12.0))


def test_only_whole_restores_are_measures() -> None:
    """What failed ended early, a disaster takes in more, and what was not restored has no time."""
    not_measures = [
        drill(1.0, verdict=Verdict.FAIL),
        drill(1.0, verdict=Verdict.INCONCLUSIVE),
        drill(1.0, way="disaster"),
        drill(None),
    ]
    assert restore_times(not_measures) == []
    assert measured_restores(not_measures) == []
    assert len(measured_restores([drill(way="cold"), *not_measures])) == 1


def test_measures_come_newest_first_and_of_their_profile() -> None:
    """As the forecast wants them, which reads the newest alone."""
    drills = [drill(1.0, finished_at=NOW - DAY), drill(2.0, sequence=3), drill(9.0, profile="settings")]
    measured = measured_restores(drills, profile="default")
    assert [one.seconds for one in measured] == pytest.approx([2.0, 1.0])
    assert [one.work.deltas for one in measured] == [3, 0]


def test_the_newest_restorable_point_is_predicted_by_what_was_measured() -> None:
    """Three drills that took ten times as long as the constants say make its restore ten times as long."""
    points = chain(2)
    alone = predict(workload_of([points[0]])).seconds
    slow = [drill(alone * 10) for _ in range(3)]
    other = full("zz", profile="other", taken_at=NOW + HOUR)
    foreseen = predict_newest([*points, other], slow, profile="default", target=TARGET)
    assert foreseen is not None
    assert foreseen.point_id == "a2"
    assert foreseen.seconds == pytest.approx(predict(workload_of(points)).seconds * 10)
    assert foreseen.basis == "3 measured restores"
    assert predict_newest([damaged(points[0]), *points[1:]], [], profile="default", target=TARGET) is None


def test_a_breach_of_the_target_makes_the_next_backup_a_full() -> None:
    """Measured restores are slow enough that one more delta is too much, and a full alone is not."""
    points = chain(5)
    now = NOW + HOUR
    alone = predict(workload_of([points[0]])).seconds
    measured = measured_restores([drill(alone * 10) for _ in range(3)])
    target = timedelta(seconds=alone * 15)
    options = replace(OPTIONS, target_rto=target)
    situation = Situation(profile="default", points=points, stored={one.id for one in points}, options=options, now=now)
    assert decide_kind("incremental", situation).kind == "incremental"
    decision = decide_kind("incremental", replace(situation, measured=measured))
    assert decision.kind == "full"
    assert decision.reason.startswith("a restore would take ")
    assert decision.reason.endswith("(3 measured restores)")
