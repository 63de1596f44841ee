"""An access log on a real Redis, collected into a real database."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew.cache._access_log import AccessLog, Shipment
from nightcrew.signing import Guard
from tasks.ttl.accesses import COUNTERS
from tasks.ttl.collecting import Collector, CollectReport
from tasks.ttl.store.access import RedisAccessLog, SqlAccessCounters
from tests.integration.tasks.ttl.batches import body_of, counters

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy import Engine

    from nightcrew.signing import Signer
    from tests.support.redis import RedisServer

SALT = "00" * 16


@dataclass
class AccessCrew:
    """The access log and its counters on real servers, with a process that ships by hand."""

    redis: Redis
    engine: Engine
    producer: str = field(default_factory=lambda: uuid.uuid4().hex)
    seq: int = 0

    def ship(
        self, *, seq: int | None = None, signer: Signer | None = None, family: str = "defaults", **counts: int
    ) -> Shipment:
        """Ship the counters of one family."""
        return self.ship_at(datetime.now(UTC), seq=seq, signer=signer, family=family, **counts)

    def ship_at(
        self,
        at: datetime,
        *,
        seq: int | None = None,
        signer: Signer | None = None,
        family: str = "defaults",
        **counts: int,
    ) -> Shipment:
        """Ship what was asked just before an instant."""
        if seq is None:
            seq = self.seq = self.seq + 1
        told = sum(counts.get(name, 0) for name in ("hits", "misses", "sets", "deletes"))
        body = body_of(counters(family, **counts), at=at)
        shipment = Shipment(producer=self.producer, seq=seq, body=body, told={family: told})
        self.append(shipment, signer=signer)
        return shipment

    def append(self, shipment: Shipment, *, signer: Signer | None = None) -> None:
        AccessLog(self.redis, signer=signer).append(shipment, SALT)

    def collector(self, *, page_entries: int = 100, guard: Guard | None = None) -> Collector:
        log, counted = RedisAccessLog(self.redis), SqlAccessCounters(self.engine)
        return Collector(log, counted, lambda: datetime.now(UTC), page_entries, guard or Guard())

    def collect(self, *, page_entries: int = 100, guard: Guard | None = None) -> CollectReport:
        return self.collector(page_entries=page_entries, guard=guard).run()

    def counted(self) -> dict[str, Counter[str]]:
        """Give the counters of each family over all hours, without zeros."""
        found: dict[str, Counter[str]] = {}
        for row in SqlAccessCounters(self.engine).hours(since_hour=0):
            found.setdefault(row["family"], Counter()).update({name: row[name] for name in COUNTERS})
        return {family: +sums for family, sums in found.items()}

    def position(self) -> Any:
        return SqlAccessCounters(self.engine).position()


@pytest.fixture
def crew(redis_server: RedisServer, engine: Engine) -> AccessCrew:
    """Give a crew on Redis and each kind of database."""
    return AccessCrew(redis_server.client(), engine)


@pytest.fixture
def sqlite_crew(redis_server: RedisServer, sqlite_engine: Engine) -> AccessCrew:
    """Give a crew on Redis and SQLite."""
    return AccessCrew(redis_server.client(), sqlite_engine)
