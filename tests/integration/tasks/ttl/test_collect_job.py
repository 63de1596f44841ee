"""The job that collects, and the window of the log that the study reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from nightcrew import wire
from nightcrew.messages import CollectAccess
from tasks.errors import TransientError
from tasks.runtime import AccessOptions
from tasks.ttl.jobs import collect_access
from tasks.ttl.operations import access_window, hourly_counters
from tests.integration.tasks.ledger.conftest import make_bench
from tests.integration.tasks.ttl.conftest import AccessCrew

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tasks.runtime import Runtime
    from tests.support.redis import RedisServer


@pytest.fixture
def runtime(sqlite_engine: Engine, redis_server: RedisServer) -> Runtime:
    return replace(make_bench(sqlite_engine, redis_server).runtime, clock=lambda: datetime.now(UTC))


def test_the_job_tells_what_it_did(runtime: Runtime) -> None:
    """Counted, kept within bounds, and told in the run's result."""
    crew = AccessCrew(runtime.redis, runtime.engine)
    crew.ship(hits=3)
    crew.redis.xadd(wire.ACCESS_LOG, {"v": "9"})
    told = collect_access(CollectAccess(), runtime)
    assert (told["entries"], told["operations"], told["rejected"], told["dropped"]) == (2, 3, 1, 0)
    assert crew.redis.hget(wire.ACCESS_META, "cap_bytes") == b"67108864"
    [row] = hourly_counters(runtime, datetime.now(UTC) - timedelta(hours=1))
    assert (row["family"], row["hits"]) == ("defaults", 3)


def test_it_forgets_what_is_older_than_the_settings_say(runtime: Runtime) -> None:
    """Counters after 400 days, entries after 25 hours."""
    crew = AccessCrew(runtime.redis, runtime.engine)
    crew.ship_at(datetime.now(UTC) - timedelta(days=401), hits=1)
    crew.ship(hits=2)
    collect_access(CollectAccess(), runtime)
    assert crew.counted()["defaults"]["hits"] == 2
    assert crew.redis.xlen(wire.ACCESS_LOG) == 2
    in_a_day = replace(runtime, clock=lambda: datetime.now(UTC) + timedelta(hours=26))
    collect_access(CollectAccess(), in_a_day)
    assert crew.redis.xlen(wire.ACCESS_LOG) == 0
    briefly = replace(runtime, access=AccessOptions(keep_hours=timedelta(hours=-1)))
    collect_access(CollectAccess(), briefly)
    assert crew.counted() == {}


def test_the_window_has_each_shipment_once(runtime: Runtime) -> None:
    """Collected or not, more than one page of them; without what is older, repeated or unreadable."""
    crew = AccessCrew(runtime.redis, runtime.engine)
    since = datetime.now(UTC)
    old_ms = int(since.timestamp() * 1000) - 60_000
    shipment = crew.ship(hits=1)
    told: Any = cast("Any", crew.redis.xrange(wire.ACCESS_LOG))[0][1]
    crew.redis.delete(wire.ACCESS_LOG)
    crew.redis.xadd(wire.ACCESS_LOG, {**told, b"p": b"old"}, id=f"{old_ms}-0")
    crew.redis.xadd(wire.ACCESS_LOG, told)
    crew.redis.xadd(wire.ACCESS_LOG, told)
    crew.redis.xadd(wire.ACCESS_LOG, {**told, b"v": b"9"})
    for number in range(150):
        crew.append(replace(shipment, producer=f"p{number}"))
    collect_access(CollectAccess(), runtime)
    batches = list(access_window(runtime, since))
    assert len(batches) == 151
    assert {one.hits for batch in batches for one in batch.families} == {1}


def test_a_broker_that_is_away_is_told(runtime: Runtime, own_redis_server: RedisServer) -> None:
    """The job is tried again."""
    gone = replace(runtime, redis=own_redis_server.client())
    own_redis_server.kill9()
    with pytest.raises(TransientError):
        collect_access(CollectAccess(), gone)
    with pytest.raises(TransientError):
        list(access_window(gone, datetime.now(UTC)))
