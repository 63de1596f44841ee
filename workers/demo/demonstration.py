"""One run of the demo."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import psutil

from nightcrew import Nightcrew
from nightcrew._redis import connect
from tasks.errors import TransientError
from tasks.usage.store import UsageQueries
from workers.celery_config import unacked_key
from workers.database import create_engine
from workers.demo.proof import Counts, Place, ProofLine, Run, Uses, expect, prove
from workers.demo.sabotage import kill_worker, lose_doorbells, successor_of
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from workers.demo.events import Event
    from workers.settings import Settings
    from workers.supervisor.crew_file import CrewRecord

_PATIENCE_S: Final = 120.0
"""How long the last counts may take: the timetable drains each minute, whatever became of the doorbells."""

_EVENTS_PER_STEP: Final = 5_000


class Audience(Protocol):
    """Whoever watches the demo."""

    def ready(self, crew: CrewRecord) -> None:
        """Hear that the crew takes work, and where Flower is."""

    def progress(self, *, sent: int, counted: int) -> None:
        """Hear how many events were sent and counted so far."""

    def note(self, text: str) -> None:
        """Hear what has just happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """Counts events through a crew of its own, and kills a worker half-way."""

    settings: Settings
    events: Sequence[Event]
    rounds: int
    audience: Audience

    def run(self) -> list[ProofLine]:
        """Run it once, end the crew, and give the proof.

        Raises:
            SupervisorError: the crew did not start.
            TransientError: the counts did not arrive in time.
        """
        crew = CrewProcess(self.settings.data_dir)
        with crew:
            record = crew.wait_ready()
            self.audience.ready(record)
            engine = create_engine(self.settings.database_url)
            try:
                run = self._count(crew, record, engine)
            finally:
                engine.dispose()
            pids = set((crew.record() or record).children.values())
        return prove(replace(run, left_behind=sum(map(psutil.pid_exists, pids))))

    def _count(self, crew: CrewProcess, record: CrewRecord, engine: Engine) -> Run:
        queries = UsageQueries(engine)
        before = _snapshot(queries)
        began_s = time.monotonic()
        with Nightcrew(self._broker_url(record), signing_key=self.settings.wire.first_key) as app:
            already = queries.sums().total
            self._send(app, queries, range(self.rounds // 2), already)
            killed_pid = kill_worker(crew)
            self.audience.note(f"killed the counting worker (pid {killed_pid}) with kill -9")
            lost = self._lose_doorbells(app, record, queries, already)
            self._send(app, queries, range(self.rounds // 2 + 1, self.rounds), already)
            successor_pid = successor_of(crew, killed_pid)
            self.audience.note(f"the supervisor has started another one (pid {successor_pid})")
            app.usage.flush(timeout_s=_PATIENCE_S)
            self._wait_until_counted(queries, already)
        seconds = time.monotonic() - began_s
        sums = queries.sums()
        return Run(
            expected=expect(self.events, rounds=self.rounds),
            before=before,
            after=_snapshot(queries),
            history_agrees=sums.history_total == sums.total + sums.reset_total,
            seconds=seconds,
            killed_pid=killed_pid,
            successor_pid=successor_pid,
            doorbells_lost=lost,
        )

    def _send(self, app: Nightcrew, queries: UsageQueries, rounds: range, already: int) -> None:
        for number in rounds:
            for first in range(0, len(self.events), _EVENTS_PER_STEP):
                for event in self.events[first : first + _EVENTS_PER_STEP]:
                    app.usage.increment(event.key, context=event.context, accepted=event.accepted, at=event.at)
                sent = number * len(self.events) + min(first + _EVENTS_PER_STEP, len(self.events))
                self._tell_progress(queries, sent, already)
            app.usage.flush(timeout_s=_PATIENCE_S)

    def _lose_doorbells(self, app: Nightcrew, record: CrewRecord, queries: UsageQueries, already: int) -> int:
        """Send the middle round while no worker runs, and throw away whatever would have told one of it."""
        redis = connect(self._broker_url(record), 5.0)
        middle = self.rounds // 2
        try:
            self._send(app, queries, range(middle, middle + 1), already)
            lost = lose_doorbells(redis, unacked_key("usage"), ring=lambda: time.sleep(0.01))
        finally:
            redis.close()
        self.audience.note(f"threw away every doorbell: {lost} lost")
        return lost

    def _broker_url(self, record: CrewRecord) -> str:
        """Give the address with its password, which the crew's record does not have."""
        named = self.settings.broker.url
        return record.broker_url if named is None else named.get_secret_value()

    def _wait_until_counted(self, queries: UsageQueries, already: int) -> None:
        sent = self.rounds * len(self.events)
        deadline = time.monotonic() + _PATIENCE_S
        while (counted := self._tell_progress(queries, sent, already)) < sent:
            if time.monotonic() > deadline:
                msg = f"{sent - counted} of {sent} events were not counted within {_PATIENCE_S:g} s"
                raise TransientError(msg)
            time.sleep(0.05)

    def _tell_progress(self, queries: UsageQueries, sent: int, already: int) -> int:
        counted = queries.sums().total - already
        self.audience.progress(sent=sent, counted=counted)
        return counted


def _snapshot(queries: UsageQueries) -> Counts:
    return {Place(row.key, row.context): Uses(row.total, row.accepted, row.rejected) for row in queries.snapshot()}
