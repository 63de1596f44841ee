"""Processes for the tests of collecting: an app that asks its cache, and a worker that collects until it is killed."""

from __future__ import annotations

import itertools
import os
import random
import sys
from datetime import UTC, datetime
from functools import partial

from nightcrew._redis import connect
from nightcrew.cache._shipping import AccessShipper
from tasks.errors import TransientError
from tasks.ttl.collecting import Collector
from tasks.ttl.store.access import RedisAccessLog, SqlAccessCounters
from tests.support.databases import opened_engine
from tests.support.waiting import pause


def work_as_app(url: str, seed: str) -> None:
    """Ask for something again and again, and tell after each flush what is logged for certain."""
    rng, asked, shipper = random.Random(seed), 0, AccessShipper(partial(connect, url, 1.0), interval_s=0.01)
    while True:
        many = rng.randrange(1, 50)
        asked += many
        os.write(1, b"asked %d\n" % asked)  # before it does: at most so many
        for _ in range(many):
            shipper.record("defaults", f"key.{rng.randrange(20)}", "get", hit=rng.random() < 0.5, size_bytes=1)
        if shipper.flush(rng.choice((0.001, 5.0))):
            os.write(1, b"logged %d\n" % asked)
        pause(0.002)


def work_as_worker(url: str, database_url: str) -> None:
    """Collect small pages without end."""
    redis = connect(url, 1.0)
    with opened_engine(database_url) as engine:
        collector = Collector(
            RedisAccessLog(redis), SqlAccessCounters(engine), lambda: datetime.now(UTC), page_entries=3
        )
        for number in itertools.count(1):
            try:
                if collector.run().transactions:
                    os.write(1, b"collected %d\n" % number)
            except TransientError:
                os.write(1, b"waits\n")
            pause(0.002)


if __name__ == "__main__":
    {"app": work_as_app, "worker": work_as_worker}[sys.argv[1]](*sys.argv[2:])
