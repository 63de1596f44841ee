"""The benchmark of the backups measures the same database each time, and cannot praise one that does not come back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, get_args

import pytest

from tests.benchmarks.backups import ALONE, CLAIMS, COMPRESS, COPY, OURS, changes, claims_table, measure_backups
from tests.benchmarks.backups_contenders import Ours, check_restore
from tests.benchmarks.backups_data import Way, build_shop, change_shop
from tests.benchmarks.backups_drills import FULL, INCREMENT, drills_table, measure_drills
from tests.benchmarks.backups_measuring import Cost
from tests.benchmarks.measuring import WrongCountError

if TYPE_CHECKING:
    from pathlib import Path

SMALL_BYTES = 2_000_000


def test_same_database_each_time(tmp_path: Path) -> None:
    """Byte by byte, about as large as was asked for, changed in the same places."""
    for name in ("one", "other"):
        change_shop(build_shop(tmp_path / name, size_bytes=SMALL_BYTES), "uni")
    one, other = ((tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other
    assert SMALL_BYTES * 0.8 < len(one) < SMALL_BYTES * 1.4


@pytest.mark.parametrize("way", get_args(Way))
def test_a_hundredth_is_updated_and_appended(tmp_path: Path, way: Way) -> None:
    """Of each table; hot updates are near the end."""
    before = build_shop(tmp_path / "before.db", size_bytes=SMALL_BYTES)
    after = change_shop(build_shop(tmp_path / "after.db", size_bytes=SMALL_BYTES), way)
    with closing(sqlite3.connect(after.path)) as connection:
        connection.execute("ATTACH ? AS was", (str(before.path),))
        changed = connection.execute(
            "SELECT id FROM (SELECT * FROM events EXCEPT SELECT * FROM was.events) ORDER BY id"
        )
        ids = [number for (number,) in changed]
    appended = after.rows["events"] - before.rows["events"]
    assert appended == round(before.rows["events"] * 0.01)
    assert appended < len(ids) <= 2 * appended
    updated = ids[:-appended]
    newest = sum(number > before.rows["events"] * 0.96 for number in updated) / len(updated)
    assert newest > 0.6 if way == "hot" else newest < 0.3


@pytest.mark.long
def test_drills_are_measured() -> None:
    """Small, so no ratio is looked at; that everything was equal is seen by the measuring itself."""
    costs = measure_drills(SMALL_BYTES, lambda _line: None)
    assert list(costs) == [FULL, INCREMENT]
    assert all(cost.restore.cpu_s > 0 and cost.validation.cpu_s > 0 for cost in costs.values())
    assert drills_table(costs, SMALL_BYTES).row_count == 2


@pytest.mark.long
def test_all_ways_are_measured_and_restored() -> None:
    """Small, where the engine's own start costs the most: no ratio is looked at."""
    costs = measure_backups(SMALL_BYTES, lambda _line: None)
    incrementals = [changes(who, way) for who in ("restic alone", "ours") for way in get_args(Way)]
    assert list(costs) == [COPY, COMPRESS, ALONE, incrementals[0], incrementals[1], OURS, *incrementals[2:]]
    assert all(cost.cpu_s > 0 and cost.stored_bytes > 0 for cost in costs.values())
    assert claims_table(costs).row_count == len(CLAIMS) == 5


def test_ratios_are_of_ours_to_restic() -> None:
    """A half of its CPU is no third."""
    plain = Cost(cpu_s=2, wall_s=0, stored_bytes=100)
    ours = Cost(cpu_s=1, wall_s=0, stored_bytes=10)
    costs = {ALONE: plain, OURS: ours}
    for way in get_args(Way):
        costs |= {changes("restic alone", way): plain, changes("ours", way): ours}
    assert [claim.reached(costs) for claim in CLAIMS] == [0.5, 0.1, 0.5, 0.1, 0.5]
    assert [claim.reached(costs) <= claim.at_most for claim in CLAIMS] == [True, True, False, True, False]


def test_a_point_of_another_source_is_an_error(tmp_path: Path) -> None:
    """One row more than was captured."""
    shop = build_shop(tmp_path / "a.db", size_bytes=SMALL_BYTES)
    ours = Ours(tmp_path / "ours")
    link = ours.put(shop.path)
    check_restore(shop.path, link, to=tmp_path / "restored")
    change_shop(shop, "uni", share=0.001)
    with pytest.raises(WrongCountError):
        check_restore(shop.path, link, to=tmp_path / "restored")
