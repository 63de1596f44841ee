"""The mirror: the state of each run as a hash in Redis, for apps, which have no database.

Written after each commit. A write that got lost is made up by the reconciler, which keeps the instant up to which the
mirror is complete beside the mirror itself: wiped or rolled back, both go together.

The same script keeps the sets of waiting jobs that the caps go by (`waiting.py`): it costs no round trip of its own,
and a late write cannot bring back what has begun.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import NoScriptError

from nightcrew import wire
from tasks.ledger.store.failures import broker_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from redis import Redis

    from tasks.ledger.runs import Run, WantedRun

COMPLETE_UNTIL_KEY: Final = "nightcrew:ledger:mirrored-until"

_SCRIPT: Final = Path(__file__).with_name("mirror.lua").read_text(encoding="utf-8")
_KEYS: Final = 2
_DIGEST: Final = hashlib.sha1(_SCRIPT.encode()).hexdigest()  # noqa: S324  the name that EVALSHA knows a script by


def write(redis: Redis, runs: Iterable[Run], *, ttl: timedelta) -> int:
    """Mirror runs as they stand; one that is mirrored in a later state already is left alone."""
    calls = [_call(run, run.revision, _fields(run), ttl=ttl, waits_since=_waits_since(run)) for run in runs]
    _execute(redis, calls)
    return len(calls)


def write_duplicate(redis: Redis, wanted: WantedRun, *, reason: str, now: datetime, ttl: timedelta) -> None:
    """Tell whoever waits for a run that there is none, because another one holds its dedup key."""
    fields = {"state": "cancelled", "kind": wanted.kind, "attempt": "0", "error": reason, "updated_at": _unix(now)}
    _execute(redis, [_call(wanted, 1, fields, ttl=ttl, waits_since="")])


def complete_until(redis: Redis) -> datetime | None:
    """Give the instant up to which every change is mirrored; None when that is not known."""
    with broker_errors():
        stored = cast("bytes | None", redis.get(COMPLETE_UNTIL_KEY))
    return None if stored is None else datetime.fromtimestamp(float(stored), UTC)


def set_complete_until(redis: Redis, instant: datetime) -> None:
    """Note the instant up to which every change is mirrored."""
    with broker_errors():
        redis.set(COMPLETE_UNTIL_KEY, _unix(instant))


def _execute(redis: Redis, calls: Sequence[Sequence[Any]]) -> None:
    """Call the script, and load it only into a server that does not know it (any more)."""
    with broker_errors():
        try:
            _evaluate(redis, calls)
        except NoScriptError:
            redis.script_load(_SCRIPT)
            _evaluate(redis, calls)  # those that were made before the loss are harmless to make again


def _evaluate(redis: Redis, calls: Sequence[Sequence[Any]]) -> None:
    if len(calls) == 1:
        redis.evalsha(_DIGEST, _KEYS, *calls[0])
        return
    with redis.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.evalsha(_DIGEST, _KEYS, *call)
        pipe.execute()


def _call(
    run: Run | WantedRun, revision: int, fields: dict[str, str], *, ttl: timedelta, waits_since: str
) -> tuple[Any, ...]:
    flat = (text for pair in fields.items() for text in pair)
    keys = (wire.job_mirror(run.id), wire.queued_jobs(run.kind))
    return (*keys, revision, round(ttl.total_seconds()), run.id, waits_since, *flat)


def _waits_since(run: Run) -> str:
    return _unix(run.queued_at) if run.state == "queued" else ""


def _fields(run: Run) -> dict[str, str]:
    fields = {
        "state": str(run.state),
        "kind": run.kind,
        "attempt": str(run.attempt),
        "progress": None if run.progress is None else str(run.progress),
        "progress_text": run.progress_text,
        "result": json.dumps(run.result) if run.state == "succeeded" else None,
        "error": run.error,
        "updated_at": _unix(run.updated_at),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _unix(instant: datetime) -> str:
    return repr(instant.timestamp())
