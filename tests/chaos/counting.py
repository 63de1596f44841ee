"""A crew that counts on one of the databases, and its counts against what was used."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import sqlalchemy as sa

from nightcrew import wire
from nightcrew._redis import connect
from tasks.transactions import begin_read
from tasks.usage.store import UsageQueries
from tasks.usage.tables import UsageHour
from tests.chaos.uses import Counts, Place, Sums, sums_of
from tests.support import wait_until
from tests.support.databases import opened_engine
from tests.support.processes import short_directory
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tasks.usage.position import Position
    from tests.chaos.uses import Use

_NONE = Sums(0, 0, 0)
_SHOWN = 5
_MOST_PARTITIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingCrew:
    """A crew of its own in a directory of its own."""

    directory: Path
    process: CrewProcess
    engine: sa.Engine
    url: str
    """Its broker, which keeps its address over restarts."""

    def restart(self) -> None:
        """End it in order and start it again."""
        self.process.stop()
        self.process.start()
        self.process.wait_ready()

    def total(self) -> int:
        """Add all counts up."""
        return UsageQueries(self.engine).sums().total

    def counts(self) -> Counts:
        """Give every single count."""
        rows = UsageQueries(self.engine).snapshot()
        return {Place(row.key, row.context): Sums(row.total, row.accepted, row.rejected) for row in rows}

    def history(self) -> Counts:
        """Give the hourly history, its hours added up."""
        sums = [sa.func.sum(column) for column in (UsageHour.total, UsageHour.accepted, UsageHour.rejected)]
        query = sa.select(UsageHour.key, UsageHour.context, *sums).group_by(UsageHour.key, UsageHour.context)
        with begin_read(self.engine) as connection:
            return {Place(row[0], row[1]): Sums(*map(int, row[2:])) for row in connection.execute(query)}

    def wait_until_drained(self, *, timeout_s: float) -> None:
        """Wait until the counts contain every entry of the log."""
        wait_until(self.is_drained, timeout_s=timeout_s, what="the end of the drain", interval_s=0.05)

    def assert_counted(self, *used: Iterable[Use], before: Counts | None = None) -> None:
        """Compare every single count, and the history, with what was used since the counts were those of `before`."""
        right = added(before or {}, sums_of(chain(*used)))
        assert_equal(self.counts(), right)
        assert_equal(self.history(), right)

    def drained(self) -> Drained:
        """Add up what the workers have logged about their drains."""
        log = self.directory / "logs" / "worker-usage.log"
        lines = [_fields(line) for line in log.read_text(encoding="utf-8").splitlines()]
        drains = [line for line in lines if line.get("event") == "usage.drained"]
        return Drained(
            transactions=sum(int(str(line["transactions"])) for line in drains),
            duplicates=sum(int(str(line["duplicates"])) for line in drains),
        )

    def is_drained(self) -> bool:
        """Tell whether the counts contain every entry of the log.

        The position need not be the newest id: where the newest entries were repetitions, and the worker was killed
        after it had deleted them and before it wrote its position, nothing is left for anyone to apply.
        """
        positions = UsageQueries(self.engine).positions()
        with connect(self.url, timeout_s=5) as redis:
            return not any(
                redis.xrange(wire.usage_stream(number), min=_behind(positions.get(number)), count=1)
                for number in range(_MOST_PARTITIONS)
            )


def _behind(position: Position | None) -> str:
    return "-" if position is None else f"({position.last_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What the logs say; a worker that was killed did not log its last drain."""

    transactions: int
    duplicates: int
    """Entries of the log that repeated a flush, and were passed over."""


@contextmanager
def counting_crew(env: Mapping[str, str], *, database_url: str | None = None) -> Iterator[CountingCrew]:
    """Run a crew during the block, on SQLite in its own directory or on the database named."""
    with short_directory() as directory:
        named = {} if database_url is None else {"NIGHTCREW_DATABASE__URL": database_url}
        with CrewProcess(directory, with_flower=False, env={**env, **named}) as process:
            record = process.wait_ready()
            with opened_engine(database_url or f"sqlite:///{directory / 'nightcrew.db'}") as engine:
                yield CountingCrew(directory=directory, process=process, engine=engine, url=record.broker_url)


def added(one: Counts, other: Counts) -> Counts:
    """Add two sets of counts."""
    places = one.keys() | other.keys()
    pairs = {place: zip(one.get(place, _NONE), other.get(place, _NONE), strict=True) for place in places}
    return {place: Sums(*(left + right for left, right in pair)) for place, pair in pairs.items()}


def assert_equal(counted: Counts, right: Counts) -> None:
    """Compare every single count."""
    wrong = sorted(place for place in counted.keys() | right.keys() if counted.get(place) != right.get(place))
    shown = [f"{place}: counted {counted.get(place)}, used {right.get(place)}" for place in wrong[:_SHOWN]]
    assert not wrong, f"{len(wrong)} counts are wrong: {'; '.join(shown)}"


def assert_between(counted: Counts, least: Counts, most: Counts) -> None:
    """Compare every single count with its bounds."""
    for place in counted.keys() | least.keys():
        bounds = zip(least.get(place, _NONE), counted.get(place, _NONE), most.get(place, _NONE), strict=True)
        assert all(low <= found <= high for low, found, high in bounds), f"{place} is {counted.get(place)}"


def _fields(line: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(line) if line.startswith("{") else {}
    return found
