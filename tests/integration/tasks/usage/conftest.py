"""A usage log on a real Redis, drained into a real database."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from nightcrew import wire
from nightcrew.signing import Guard
from tasks.usage.drain import Drain, DrainReport
from tasks.usage.store import RedisUsageLog, SqlUsageCounts, UsageQueries

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy import Engine

    from nightcrew.signing import Signer
    from tests.support.redis import RedisServer


@dataclass
class Crew:
    """The usage slice on real servers, with a producer that writes the wire form by hand."""

    redis: Redis
    engine: Engine
    producer: str = field(default_factory=lambda: uuid.uuid4().hex)
    seq: int = 0

    @property
    def hour(self) -> int:
        return int(datetime.now(UTC).timestamp() // 3600)

    def begin_log(self) -> None:
        self.redis.hsetnx(wire.USAGE_META, "epoch", uuid.uuid4().hex)

    def log_add(
        self,
        counts: dict[str, int],
        *,
        seq: int | None = None,
        outcome: str = "n",
        partition: int = 0,
        signer: Signer | None = None,
    ) -> str:
        """Log one flush of increments."""
        return self._log("add", [[self.hour, "", outcome, counts]], seq, partition, signer)

    def log_reset(self, key: str | None = None, partition: int = 0) -> str:
        return self._log("reset", {"key": key, "context": None}, None, partition)

    def _log(self, operation: str, body: object, seq: int | None, partition: int, signer: Signer | None = None) -> str:
        self.begin_log()
        if seq is None:
            seq = self.seq = self.seq + 1
        fields = {"v": "1", "op": operation, "p": self.producer, "s": str(seq), "d": json.dumps(body)}
        stream = wire.usage_stream(partition)
        if signer is not None:
            fields["sig"] = signer.sign_entry(stream, fields)
        entry_id = self.redis.xadd(stream, fields)  # type: ignore[arg-type]
        return str(entry_id.decode())  # type: ignore[union-attr]

    def drain(self, partition: int = 0, *, page_entries: int = 100, guard: Guard | None = None) -> DrainReport:
        log, counts = RedisUsageLog(self.redis), SqlUsageCounts(self.engine)
        return Drain(log, counts, lambda: datetime.now(UTC), page_entries, guard or Guard()).run(partition)

    def counted(self) -> Counter[str]:
        return Counter({row.key: row.total for row in UsageQueries(self.engine).snapshot()})

    def check_history(self) -> None:
        """Check that the history sums to the counts."""
        sums = UsageQueries(self.engine).sums()
        assert sums.history_total == sums.total + sums.reset_total


@pytest.fixture
def crew(redis_server: RedisServer, engine: Engine) -> Crew:
    """Give a crew on Redis and each kind of database."""
    return Crew(redis_server.client(), engine)


@pytest.fixture
def sqlite_crew(redis_server: RedisServer, sqlite_engine: Engine) -> Crew:
    """Give a crew on Redis and SQLite."""
    return Crew(redis_server.client(), sqlite_engine)
