"""What a sample says of the whole holds as often as it says, and what was counted is no estimate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tasks.ttl.prefixes import Prefixes
from tasks.ttl.scan_sample import NO_TTL, UNKNOWN, KeyFacts, Sample, simultaneous_z
from tasks.ttl.scans import CONFIDENCE, Estimate

PREFIXES = Prefixes({"a:": "a", "b:": "b", "c:": "c", "d:": "d", "e:": "e"})
SHARES = {"a": 0.40, "b": 0.30, "c": 0.20, "d": 0.09, "e": 0.01}


def facts(key: str, *, ttl_ms: int = 1_000, idle_s: int = 5, size_bytes: int = 100) -> KeyFacts:
    return KeyFacts(key.encode(), ttl_ms, idle_s, size_bytes)


def sampled(rows: list[KeyFacts], *, asked: int | None = None, is_last: bool = False) -> Sample:
    sample = Sample(PREFIXES)
    sample.take_page(rows, asked=len(rows) if asked is None else asked, given=len(rows), is_last=is_last)
    return sample


@dataclass(frozen=True)
class Cache:
    """Keys whose sizes are skewed as real ones are."""

    family: np.ndarray[tuple[int], np.dtype[np.int64]]
    size: np.ndarray[tuple[int], np.dtype[np.int64]]

    @classmethod
    def of(cls, keys: int, rng: np.random.Generator) -> Cache:
        family = rng.choice(len(SHARES), keys, p=list(SHARES.values()))
        return cls(family=family, size=rng.lognormal(6 + family / 2, 1.0, keys).astype(np.int64))

    def draw(self, count: int, rng: np.random.Generator) -> Sample:
        chosen = rng.choice(len(self.family), count, replace=False)
        names = list(SHARES)
        return sampled(
            [facts(f"{names[self.family[one]]}:{one}", size_bytes=int(self.size[one])) for one in chosen.tolist()]
        )


def misses(cache: Cache, sample: Sample) -> int:
    """Count the intervals that do not hold what is there."""
    whole = len(cache.family)
    wrong = 0
    for number, family in enumerate(SHARES):
        of_family = cache.family == number
        found = next(
            one for one in sample.families(sample.total(whole, whole, is_complete=False)) if one.family == family
        )
        assert found.size_bytes is not None
        there = ((found.keys, of_family.sum()), (found.size_bytes, cache.size[of_family].sum()))
        wrong += sum(not estimate.low <= truth <= estimate.high for estimate, truth in there)
    return wrong


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_intervals_of_a_scan_hold_together(share: float) -> None:
    """All ten of them in nine of ten scans at least, of 95 that are promised; from few keys and from many."""
    rng = np.random.default_rng(11)
    cache = Cache.of(20_000, rng)
    whole = [misses(cache, cache.draw(int(20_000 * share), rng)) == 0 for _ in range(60)]
    assert np.mean(whole) >= CONFIDENCE - 0.05


@pytest.mark.long
@pytest.mark.parametrize("share", [0.03, 0.1, 0.5])
def test_intervals_of_many_scans_hold_together(share: float) -> None:
    """All ten of them in 95 of 100 scans, but for what 400 scans cannot tell."""
    rng = np.random.default_rng(12)
    cache = Cache.of(40_000, rng)
    held = np.mean([misses(cache, cache.draw(int(40_000 * share), rng)) == 0 for _ in range(400)])
    assert held >= CONFIDENCE - 0.035, held


def test_intervals_are_not_wide_for_nothing() -> None:
    """A family of 40 % is known to 2 % from 20,000 keys, as the normal distribution has it."""
    rng = np.random.default_rng(13)
    sample = Cache.of(400_000, rng).draw(20_000, rng)
    total = sample.total(400_000, 400_000, is_complete=False)
    keys = next(one for one in sample.families(total) if one.family == "a").keys
    expected = simultaneous_z(12) * np.sqrt(0.6 / (0.4 * 20_000) * 0.95)
    assert keys.half_width == pytest.approx(expected, rel=0.03)


def test_a_complete_scan_is_exact() -> None:
    """To the key and to the byte, and shares are as well; families without a key have none."""
    rows = [facts(f"a:{n}", size_bytes=n, ttl_ms=NO_TTL if n % 4 else 1_000) for n in range(1, 101)]
    sample = sampled(rows, is_last=True)
    total = sample.total(90, 130, is_complete=True)
    assert total == Estimate(value=100, low=100, high=100)
    found = {one.family: one for one in sample.families(total)}
    assert found["a"].keys == Estimate(value=100, low=100, high=100)
    assert found["a"].size_bytes == Estimate(value=5050, low=5050, high=5050)
    assert found["a"].without_ttl == Estimate(value=0.75, low=0.75, high=0.75)
    assert found["b"].keys == found["b"].size_bytes == Estimate(value=0, low=0, high=0)
    assert found["b"].without_ttl is None
    assert found["a"].keys.half_width == 0


def test_a_key_that_comes_again_counts_once() -> None:
    """As SCAN may give it, in the same page or in a later one."""
    sample = sampled([facts("a:1"), facts("b:1"), facts("a:1")])
    sample.take_page([facts("a:1"), facts("a:2")], asked=2, given=2, is_last=True)
    assert (sample.keys, sample.duplicates) == (3, 2)
    found = {one.family: one.sampled for one in sample.families(sample.total(3, 3, is_complete=True))}
    assert (found["a"], found["b"]) == (2, 1)


def test_a_family_that_was_not_met_is_small_and_not_nothing() -> None:
    """It may have keys all the same; what they take nobody knows."""
    sample = sampled([facts(f"a:{n}") for n in range(1_000)])
    found = {one.family: one for one in sample.families(sample.total(50_000, 50_000, is_complete=False))}
    assert found["b"].keys.low == 0 < found["b"].keys.high < 1_000
    assert found["b"].size_bytes is None
    assert found["a"].keys.high == 50_000


def test_what_was_seen_is_there() -> None:
    """No interval is below the keys and bytes that were met, or leaves no room for those of others."""
    sample = sampled([facts("a:1", size_bytes=10**9), *(facts(f"b:{n}", size_bytes=50) for n in range(99))])
    found = {one.family: one for one in sample.families(sample.total(120, 120, is_complete=False))}
    assert 1 <= found["a"].keys.low <= found["a"].keys.high <= 21
    assert found["a"].size_bytes is not None
    assert found["a"].size_bytes.low >= 10**9
    assert 99 <= found["b"].keys.low <= found["b"].keys.high <= 119


def test_expired_keys_that_are_not_deleted_yet_are_not_counted() -> None:
    """The server counts them and SCAN passes over them: pages that lack a fifth of their keys tell."""
    sample = Sample(PREFIXES)
    for page in range(50):
        rows = [facts(f"a:{page}:{n}") for n in range(80)]
        sample.take_page(rows, asked=100, given=80, is_last=False)
    total = sample.total(100_000, 100_000, is_complete=False)
    assert total.value == pytest.approx(80_000)
    assert total.low < 80_000 < total.high == 100_000
    assert total.low > 70_000


def test_a_database_that_grows_meanwhile_widens_the_interval() -> None:
    """From the number at its begin to that at its end."""
    total = sampled([facts("a:1")]).total(1_000, 1_200, is_complete=False)
    assert (total.low, total.value, total.high) == (1_000, 1_100, 1_200)


def test_narrow_means_every_family_that_was_met() -> None:
    """A rare one keeps a scan going; one that was not met and what has no family do not."""
    total = Estimate(value=100_000, low=100_000, high=100_000)
    many = [facts(f"a:{n}") for n in range(5_000)]
    strange = [facts(f"strange:{n}", size_bytes=10**n) for n in range(9)]
    assert sampled(many + strange).is_narrow(total, 0.05)
    assert not sampled([*many, facts("b:1")]).is_narrow(total, 0.05)
    assert not sampled([]).is_narrow(total, 0.05)
    assert not sampled(many).is_narrow(total, 0.0)


def test_quantiles_are_of_what_expires_and_of_what_is_known() -> None:
    """In seconds, by rank."""
    rows = [facts(f"a:{n}", ttl_ms=n * 1_000, idle_s=2 * n) for n in range(1, 101)]
    rows += [facts(f"a:x{n}", ttl_ms=NO_TTL, idle_s=UNKNOWN) for n in range(50)]
    found = next(one for one in sampled(rows).families(Estimate(value=150, low=150, high=150)) if one.family == "a")
    assert found.ttl_left_s is not None
    assert (found.ttl_left_s.p10, found.ttl_left_s.p50, found.ttl_left_s.p99, found.ttl_left_s.keys) == (
        10,
        50,
        99,
        100,
    )
    assert found.idle_s is not None
    assert (found.idle_s.p90, found.idle_s.keys) == (180, 100)


def test_sizes_that_are_barred_are_unknown_and_not_zero() -> None:
    """Times to live and counts stay."""
    sample = sampled([facts(f"a:{n}", size_bytes=UNKNOWN) for n in range(10)])
    found = next(one for one in sample.families(sample.total(10, 10, is_complete=True)) if one.family == "a")
    assert (found.size_bytes, found.keys.value) == (None, 10)
