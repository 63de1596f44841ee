"""A ledger with pings to send, and senders of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import insert, select

from nightcrew._uuid7 import uuid7
from tasks.ledger.tables import Ping
from tasks.runtime import Runtime
from tasks.transactions import begin_read, begin_write
from tests.support.switch import Switch, listening_switch
from workers.pings import PingSender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine, Row

START = datetime(2026, 3, 1, 12, tzinfo=UTC)

NewSender = Callable[..., PingSender]


@dataclass
class Ledger:
    """Writes pings as the ledger does, and reads them."""

    engine: Engine
    now: datetime = START
    runs: dict[str, str] = field(default_factory=dict)

    def clock(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def tell(self, signal: str, *, entry: str = "nightly", detail: str | None = None, run_id: str = "") -> str:
        run_id = run_id or str(uuid7())
        values = {"entry": entry, "run_id": run_id, "signal": signal, "detail": detail}
        with begin_write(self.engine) as connection:
            connection.execute(insert(Ping).values(created_at=self.now, try_at=self.now, **values))
        return run_id

    def rows(self) -> list[Row[Any]]:
        with begin_read(self.engine) as connection:
            return list(connection.execute(select(*Ping.__table__.columns).order_by(Ping.id)).all())


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """Give what was logged, and keep it off the screen."""
    with structlog.testing.capture_logs() as entries:
        yield cast("list[Any]", entries)


@pytest.fixture
def switch() -> Iterator[Switch]:
    """Give a switch that answers."""
    with listening_switch() as listening:
        yield listening


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    """Give a ledger on each kind of database."""
    return Ledger(engine)


@pytest.fixture
def quick_ledger(sqlite_engine: Engine) -> Ledger:
    """Give a ledger on SQLite alone, for what does not depend on the database."""
    return Ledger(sqlite_engine)


@pytest.fixture
def new_sender() -> Iterator[NewSender]:
    """Make senders, which end with the test."""
    made: list[PingSender] = []

    def new(ledger: Ledger, targets: dict[str, str], *, timeout_s: float = 5.0, interval_s: float = 0.01) -> PingSender:
        unused: Any = None
        runtime = Runtime(
            engine=ledger.engine,
            redis=unused,
            publisher=unused,
            timetable={},
            worker_name="ledger@test",
            clock=ledger.clock,
        )
        secrets = {entry: SecretStr(url) for entry, url in targets.items()}
        made.append(PingSender(runtime, secrets, timeout_s=timeout_s, interval_s=interval_s))
        return made[-1]

    yield new
    for sender in made:
        sender.stop()
