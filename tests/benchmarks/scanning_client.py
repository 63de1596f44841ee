"""An app that asks for keys at a steady pace, in a process of its own: `python -m tests.benchmarks.scanning_client`.

It says `ready`, asks until its input ends, and then gives the milliseconds of each request as JSON. A request that had
to wait for the one before it counts from the moment at which it was due: a client that merely fell silent while the
server was busy would hide what it waited for.
"""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis import Redis

from tests.benchmarks.scanning_data import key_of
from tests.support.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHECKOUT: Final = Path(__file__).parents[2]
_PER_S: Final = 1_000


@dataclass(slots=True)
class Latencies:
    """What the app waited for its requests; filled when the block around it ends."""

    ms: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Give a percentile in milliseconds."""
        return sorted(self.ms)[min(len(self.ms) - 1, int(len(self.ms) * percent / 100))]


@contextmanager
def asking(url: str, keys: int) -> Iterator[Latencies]:
    """Let an app ask during the block."""
    app = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.scanning_client", url, str(keys)],
        cwd=_CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert app.stdin is not None
    assert app.stdout is not None
    latencies = Latencies()
    try:
        assert app.stdout.readline() == "ready\n"
        yield latencies
        app.stdin.close()
        latencies.ms = json.loads(app.stdout.readline())
    finally:
        app.kill()
        app.stdout.close()
        app.wait()


def _ask(url: str, keys: int) -> list[float]:
    redis = Redis.from_url(url, socket_timeout=30.0)
    chance = random.Random(7)
    redis.get(key_of(0))
    print("ready", flush=True)
    taken: list[float] = []
    began = time.perf_counter()
    ended = began
    while not (len(taken) % 100 == 0 and _is_over()):
        due = began + len(taken) / _PER_S
        if ended < due:
            pause(due - ended)
            due = time.perf_counter()
        # Every fourth key is a hash, which GET would refuse.
        redis.exists(key_of(chance.randrange(keys)))
        ended = time.perf_counter()
        taken.append((ended - due) * 1_000)
    redis.close()
    return taken


def _is_over() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


if __name__ == "__main__":
    print(json.dumps(_ask(sys.argv[1], int(sys.argv[2]))), flush=True)
