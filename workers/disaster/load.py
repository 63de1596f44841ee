"""An app under load, in a process of its own: counts and hands over jobs, and writes down what the crew acknowledged.

    python -m workers.disaster.load URL JOURNAL NAME

It lives on while the crew is away, as apps do: what it could not hand over waits in its memory. TERM lets it end when
the round at hand is acknowledged.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nightcrew import Nightcrew
from nightcrew._uuid7 import uuid7
from nightcrew.errors import EnqueueError, FlushError
from nightcrew.messages import RunCanary
from tasks.backups.drills.disaster import AMOUNT, Journal, hot_key, round_key

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_S: Final = 0.08
_TIMEOUT_S: Final = 2.0
_ROUNDS_A_JOB: Final = 4


def main(url: str, journal: Path, name: str) -> None:
    """Work until TERM."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    with journal.open("a", encoding="utf-8", buffering=1) as file, Nightcrew(url, timeout_s=_TIMEOUT_S) as app:

        def note(**line: Any) -> None:
            file.write(json.dumps({**line, "at": datetime.now(UTC).isoformat()}) + "\n")

        number = 0
        while not asked:
            number += 1
            note(begun=number)
            app.usage.increment_many({round_key(name, number): AMOUNT, hot_key(name): 1})
            _again_until_taken(app.usage.flush)
            note(acknowledged=number)
            if number % _ROUNDS_A_JOB == 1:
                job_id, message = str(uuid7()), RunCanary(note=f"{name} {number}")
                _again_until_taken(partial(app.enqueue, message, job_id=job_id))
                note(job=job_id)
            time.sleep(_PAUSE_S)


def read_journal(path: Path, name: str) -> Journal:
    """Read what an app wrote; the last line may be cut off."""
    begun: list[datetime] = []
    acknowledged: list[datetime] = []
    jobs: dict[str, datetime] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):
            line = json.loads(text)
            at = datetime.fromisoformat(line["at"])
            if "job" in line:
                jobs[line["job"]] = at
            else:
                (begun if "begun" in line else acknowledged).append(at)
    return Journal(app=name, begun=begun, acknowledged=acknowledged, jobs=jobs)


def _again_until_taken(hand_over: Callable[[], object]) -> None:
    while True:
        with suppress(FlushError, EnqueueError):
            hand_over()
            return
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
