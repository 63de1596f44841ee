"""The two streams of the ledger in Redis: intents and dead letters.

What is committed in SQL is deleted here by its exact id, and reading always begins at the start of the stream.
Everything in a stream is therefore still to be taken in, or harmless to take in again, also when Redis was wiped
and gives small ids once more; a position kept elsewhere could skip what came then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from nightcrew import wire
from tasks.ledger.dead_letters import to_fields
from tasks.ledger.store.failures import broker_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis import Redis

    from tasks.ledger.dead_letters import DeadLetter

    Entry = tuple[str, Mapping[bytes, bytes]]

DEAD_LETTERS_CAP_BYTES: Final = 128 * 1024 * 1024
"""Memory of the stream of dead letters, as Redis estimates it."""

_SAMPLES: Final = 20

_log = structlog.get_logger(__name__)


def oldest_entries(redis: Redis, stream: str, *, count: int) -> list[Entry]:
    """Read the oldest entries of a stream, with their ids."""
    with broker_errors():
        answer: Any = redis.xrange(stream, count=count)
    return [(entry_id.decode(), fields) for entry_id, fields in answer]


def drop_entries(redis: Redis, stream: str, ids: Sequence[str]) -> None:
    """Delete entries that are committed in SQL."""
    if ids:
        with broker_errors():
            redis.xdel(stream, *ids)


def append_entry(redis: Redis, stream: str, fields: Mapping[bytes, bytes]) -> None:
    """Append an entry as it is."""
    with broker_errors():
        redis.xadd(stream, cast("Any", dict(fields)))


def append_dead_letter(redis: Redis, letter: DeadLetter) -> None:
    """Put a letter where the ledger will find it; the message may be acknowledged after this, and not before."""
    with broker_errors():
        redis.xadd(wire.DEAD_LETTERS, cast("Any", to_fields(letter)))
        cap_dead_letters(redis)


def cap_dead_letters(redis: Redis, *, cap_bytes: int = DEAD_LETTERS_CAP_BYTES) -> int:
    """Keep the letters that nobody takes in from filling the broker: over the cap the older half goes, loudly.

    That happens only while the database is away. A broker that is full refuses counts and jobs, which are worth more.

    Raises:
        RedisError: it was in the way.
    """
    size = redis.memory_usage(wire.DEAD_LETTERS, samples=_SAMPLES)
    if size is None or size <= cap_bytes:
        return 0
    kept = redis.xlen(wire.DEAD_LETTERS) // 2
    dropped = redis.xtrim(wire.DEAD_LETTERS, maxlen=kept, approximate=False)
    _log.error("ledger.letters_dropped", count=dropped, size_bytes=size, cap_bytes=cap_bytes)
    return dropped


def entry_count(redis: Redis, stream: str) -> int:
    """Count what is still to be taken in."""
    with broker_errors():
        return int(cast("Any", redis.xlen(stream)))
