"""Names that apps and crew must spell alike: Redis keys, message headers, limits of the usage log.

Standard library only. Each key is built here and nowhere else.
"""

from __future__ import annotations

from typing import Final

USAGE_META: Final = "nightcrew:usage:meta"
"""Hash: `epoch` (UUID hex, made with the log; a wiped Redis gets another), `partitions` (count)."""

INTENTS: Final = "nightcrew:intents"
"""Stream of jobs that apps want run; the ledger takes them in by offset."""

DEAD_LETTERS: Final = "nightcrew:dead-letters"
"""Stream of messages that no job could read; the ledger takes them in by offset."""

BEAT_HEARTBEAT: Final = "nightcrew:beat:heartbeat"
"""String: Unix time of beat's last tick; expires by itself."""

HEADER_SCHEMA: Final = "nightcrew_schema"
HEADER_ENQUEUED_AT: Final = "nightcrew_enqueued_at"
"""Unix time in seconds as a float. Celery itself writes no time of publication."""
HEADER_CORRELATION_ID: Final = "nightcrew_correlation_id"
HEADER_DEDUP_KEY: Final = "nightcrew_dedup_key"
"""Only where the job has one."""
HEADER_INTENT: Final = "nightcrew_intent"
"""True where the job stands in `INTENTS` as well, so that the ledger owes it an outcome; a bare doorbell does not."""

HEADER_SIGNATURE: Final = "nightcrew_signature"
"""Who vouches for the message, see `nightcrew.signing`; only where a signing key is set."""

QUEUE_CAPS: Final = "nightcrew:jobs:caps"
"""Hash: kind, or `*` for all others, to the most runs of it that may wait. Written by the crew, read at `enqueue`."""

CACHE_POLICY: Final = "nightcrew:cache:policy"
"""String: the policy of the cache as JSON, see `nightcrew.cache.policy`; without it apps go by their default."""

CACHE_EVENTS: Final = "nightcrew:cache:events"
"""Channel: what must no longer be given from a process's own copy, and that there is another policy."""

CACHE_GENERATIONS: Final = "nightcrew:cache:generations"
"""Hash: family to the number that stands in the keys of its entries; a greater one makes all older ones unread."""

ACCESS_META: Final = "nightcrew:access:meta"
"""Hash: `epoch` (UUID hex, made with the log), `salt` (hex, of the hashes in it), `keep_ms` and `cap_bytes` (what the
log keeps; set by the crew)."""

ACCESS_LOG: Final = "nightcrew:access"
"""Stream of what apps asked of the cache: exact counters, and a sample of single requests without their keys."""

ACCESS_TOTALS: Final = "nightcrew:access:totals"
"""Hash: `logged:<family>` (how many operations the log was ever told of), `bytes` (of all entries), minute since the
epoch (bytes of the entries of that minute, by which the log is kept within its bound), `faded:<family>` (minute)."""

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
"""Largest payload of a job, as compact JSON in UTF-8. Messages carry references, not content."""

MAX_ENTRY_BYTES: Final = 32 * 1024 * 1024
"""Largest body of an entry of the usage log: the 5,000 counts of a flush under the longest keys and contexts."""

MAX_KEY_BYTES: Final = 512
"""Longest key and longest context of a count, in UTF-8 bytes."""

MAX_AMOUNT: Final = 2**53 - 1
"""Largest amount of one increment: the largest whole number that every JSON reader keeps exact."""

EARLIEST_EVENT_HOUR: Final = 262_968
"""2000-01-01T00Z in hours since the epoch. Anything older comes from a clock that was never set."""

MAX_FUTURE_HOURS: Final = 24
"""How far an event may lie ahead of the moment at which it is logged."""


def usage_stream(partition: int) -> str:
    """Stream of a partition of the usage log."""
    return f"nightcrew:usage:{partition}"


def usage_segments(partition: int) -> str:
    """Stream of compacted stretches of that log, all older than its first raw entry."""
    return f"nightcrew:usage:{partition}:segments"


def usage_bell(partition: int) -> str:
    """Flag: a doorbell for this partition is outstanding."""
    return f"nightcrew:usage:{partition}:bell"


def usage_producer(producer_id: str) -> str:
    """Sequence number of the last flush that the log took from this producer."""
    return f"nightcrew:usage:producer:{producer_id}"


def job_mirror(job_id: str) -> str:
    """Hash that mirrors a job's row for apps, which have no database: see `nightcrew.jobs`."""
    return f"nightcrew:job:{job_id}"


def queued_jobs(kind: str) -> str:
    """Sorted set of the ids of the jobs of a kind that wait for a worker; scores are Unix time of their enqueueing."""
    return f"nightcrew:jobs:queued:{kind}"


def cache_entry(family: str, generation: int, key: str) -> str:
    """Key of an entry of the cache. Families are told apart by the prefix, so that a scan can as well."""
    return f"{cache_prefix(family)}{generation}:{key}"


def cache_prefix(family: str) -> str:
    """Prefix of all entries of a family."""
    return f"nightcrew:cache:{family}:"


def cache_filler(family: str, generation: int, key: str) -> str:
    """Lock of whoever fills an entry; expires by itself."""
    return f"nightcrew:cache-filler:{family}:{generation}:{key}"


def access_producer(producer_id: str) -> str:
    """Sequence number of the last entry that the access log took from this producer."""
    return f"nightcrew:access:producer:{producer_id}"


def access_hot(family: str) -> str:
    """Sorted set of the keys (salted hashes, hex) of a family that all processes ask for most; scores decay."""
    return f"nightcrew:access:hot:{family}"
