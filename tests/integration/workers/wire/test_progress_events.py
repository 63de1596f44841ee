"""What Flower is told of a job that works."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from celery import Celery

from nightcrew import Nightcrew
from nightcrew._redis import kombu_url
from tests.chaos.apps import ROOT
from tests.chaos.deeds import METADATA, WorkLong
from tests.integration.workers.wire.crew import running_worker
from tests.support import wait_until
from workers.database import create_engine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.redis import RedisServer


class Listener:
    """Hears the events of workers, as Flower does."""

    def __init__(self, broker_url: str) -> None:
        self.heard: list[dict[str, Any]] = []
        self._app = Celery("listener", broker=kombu_url(broker_url), set_as_current=False)
        self._connection = self._app.connection_for_read()
        self._receiver: Any = self._app.events.Receiver(self._connection, handlers={"task-progress": self.heard.append})
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join(timeout=10)
        self._connection.release()

    def _listen(self) -> None:
        self._receiver.capture(limit=None, timeout=None, wakeup=False)


def test_flower_hears_how_far_a_job_is(redis_server: RedisServer, tmp_path: Path) -> None:
    """Its share and its words come as an event that names the job, and grow."""
    url = redis_server.url
    more: Any = {"app": "tests.chaos.worker_app", "env": {"PYTHONPATH": str(ROOT)}}
    with (
        running_worker(tmp_path, broker_url=url, redis=redis_server.client(), **more),
        Listener(url) as listener,
        Nightcrew(url) as app,
    ):
        METADATA.create_all(create_engine(f"sqlite:///{tmp_path / 'nightcrew.db'}"))
        job = app.enqueue(WorkLong(seconds=2.0))
        job.result(timeout_s=20)
        wait_until(lambda: len(listener.heard) > 1, timeout_s=10, what="events of its progress")
    assert {event["uuid"] for event in listener.heard} == {job.id}
    shares = [event["pct"] for event in listener.heard]
    assert shares == sorted(shares)
    assert shares[-1] > shares[0] >= 0
    assert listener.heard[-1]["result"].startswith(f"{shares[-1]}% step ")
