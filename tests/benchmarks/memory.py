"""Memory of an app that counts, seen by an app that has nothing else in it: `python -m tests.benchmarks.memory URL`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.benchmarks import workloads

_CHECKOUT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerMemory:
    """Resident memory of one process, in bytes, at three moments."""

    before: int
    """With the keys to count in it, before the library is imported."""
    counting: int
    """After the last count, 10,000 distinct keys."""
    closed: int
    """After everything was flushed, with the parts of redis-py and Celery that this needs."""


def producer_memory(url: str, increments: int) -> ProducerMemory:
    """Measure it in a fresh process."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.memory", str(increments)],
        check=True,
        capture_output=True,
        cwd=_CHECKOUT,
        env={**os.environ, "BENCH_BROKER_URL": url},
        text=True,
    )
    return ProducerMemory(**json.loads(finished.stdout))


def _measure(url: str, increments: int) -> ProducerMemory:
    own = psutil.Process()
    workload = workloads.zipf(increments)
    before = own.memory_info().rss
    from nightcrew import Nightcrew  # noqa: PLC0415  its import is part of what is measured

    with Nightcrew(url) as app:
        for key in workload.keys:
            app.usage.increment(key)
        counting = own.memory_info().rss
        app.usage.flush()
        return ProducerMemory(before=before, counting=counting, closed=own.memory_info().rss)


if __name__ == "__main__":
    measured = _measure(os.environ["BENCH_BROKER_URL"], int(sys.argv[1]))
    print(json.dumps({"before": measured.before, "counting": measured.counting, "closed": measured.closed}))
