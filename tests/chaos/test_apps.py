"""Apps in trouble: killed, without a broker, or on a bad line."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest

from nightcrew import Nightcrew, wire
from nightcrew._redis import connect
from tests.chaos.apps import running_app
from tests.chaos.counting import added, assert_between, counting_crew
from tests.chaos.cutting import BadLine, bad_line
from tests.chaos.sabotage import Saboteur
from tests.chaos.uses import sums_of
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from tests.chaos.apps import App
    from tests.chaos.counting import CountingCrew

_CALLS = 1_000_000
_CALLS_PER_S = 30_000
_KILLS = 4
_PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def crew() -> Iterator[CountingCrew]:
    with counting_crew({}) as running:
        yield running


def test_a_killed_app_loses_at_most_what_it_had_not_flushed(crew: CountingCrew, tmp_path: Path, seed: int) -> None:
    """Each count lies between what a `flush()` had covered and what was called."""
    before = crew.counts()
    least, most = [], []
    for number in range(_KILLS):
        with running_app(
            crew.url, tmp_path, seed=seed + number, calls=_CALLS, calls_per_s=_CALLS_PER_S, flush_every=700
        ) as app:
            count_and_kill(app, calls=2_000 + (seed + number) % 5_000)
            assert app.board.flushed > 0
            least += list(app.first(app.board.flushed))
            most += list(app.first(app.board.begun))
    crew.wait_until_drained(timeout_s=_PATIENCE_S)
    assert_between(crew.counts(), added(before, sums_of(least)), added(before, sums_of(most)))


def test_a_killed_app_with_a_spool_loses_nothing(crew: CountingCrew, tmp_path: Path, seed: int) -> None:
    """The next app on the same spool hands over what is left; only the call at hand may count or not."""
    spool = tmp_path / "spool"
    before = crew.counts()
    least, most = [], []
    for number in range(_KILLS):
        with running_app(
            crew.url, tmp_path, seed=seed + number, calls=_CALLS, calls_per_s=_CALLS_PER_S, spool=spool
        ) as app:
            count_and_kill(app, calls=2_000 + (seed + number) % 5_000)
            least += list(app.first(app.board.returned))
            most += list(app.first(app.board.begun))
    assert list(spool.iterdir()), "the spool is empty: nothing was at stake"
    with Nightcrew(crew.url, spool=spool) as successor:
        successor.usage.flush(timeout_s=_PATIENCE_S)
    assert not list(spool.iterdir())
    crew.wait_until_drained(timeout_s=_PATIENCE_S)
    assert len(most) - len(least) <= _KILLS
    assert_between(crew.counts(), added(before, sums_of(least)), added(before, sums_of(most)))


@pytest.mark.long
def test_an_app_counts_on_while_the_broker_is_away(crew: CountingCrew, tmp_path: Path, seed: int) -> None:
    """It waits for no one, and afterwards hands over everything exactly once."""
    calls, before = 20_000, crew.counts()
    with running_app(crew.url, tmp_path, seed=seed, calls=calls, calls_per_s=_CALLS_PER_S) as app:
        app.board.allowed = calls // 2
        wait_until(lambda: app.board.returned == calls // 2, timeout_s=30, what="half of the calls")
        crew.process.stop()
        app.board.allowed = calls
        wait_until(lambda: app.board.returned == calls, timeout_s=30, what="the other half, without a broker")
        assert app.process.is_running()
        crew.process.start()
        crew.process.wait_ready()
        assert app.process.wait(timeout_s=_PATIENCE_S) == 0
    crew.wait_until_drained(timeout_s=_PATIENCE_S)
    crew.assert_counted(app.first(calls), before=before)


@pytest.mark.parametrize(
    "forgetful", [pytest.param(False, marks=pytest.mark.long), True], ids=["broker-remembers", "broker-forgets"]
)
def test_an_answer_that_is_lost_doubles_nothing(
    crew: CountingCrew, tmp_path: Path, seed: int, *, forgetful: bool
) -> None:
    """The flush is sent again: the broker knows it; and where it has forgotten the app, the database does."""
    calls, before = 20_000, crew.counts()
    with connect(crew.url, timeout_s=5) as redis:
        line = BadLine(
            path=crew.directory / f"line-{forgetful}",
            broker=crew.directory / "broker" / "broker.sock",
            chance=random.Random(seed),
            cut_share=0.5,
            on_cut=(lambda: forget_producers(redis)) if forgetful else (lambda: None),
        )
        with bad_line(line) as url, running_app(url, tmp_path, seed=seed, calls=calls, calls_per_s=10_000) as app:
            app.board.allowed = calls
            assert app.process.wait(timeout_s=_PATIENCE_S) == 0
    assert line.cuts >= line.sure_cuts
    # Doorbells were lost as well; the next worker asks for a drain when it starts, before the minute's comes.
    Saboteur(crew.process, random.Random(seed)).kill("worker-usage")
    crew.wait_until_drained(timeout_s=_PATIENCE_S)
    crew.assert_counted(app.first(calls), before=before)


def forget_producers(redis: Redis) -> None:
    for key in redis.scan_iter(wire.usage_producer("*")):
        redis.delete(key)


def count_and_kill(app: App, *, calls: int) -> None:
    """Let it count, and kill it in the middle."""
    app.board.allowed = _CALLS
    wait_until(lambda: app.board.returned >= calls, timeout_s=30, what=f"{calls} calls", interval_s=0.0001)
    app.process.send(signal.SIGKILL)
    assert app.process.wait(timeout_s=10) == -signal.SIGKILL
