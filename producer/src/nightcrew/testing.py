"""For the tests of apps: a `Nightcrew` that talks to nobody and remembers everything.

    crew = RecordingNightcrew()
    greet(crew)
    assert crew.usage.counts() == {("mail.greeting", "fr", True): 1}
    assert crew.enqueued(RunCanary.kind) == [RunCanary(note="hello")]

It checks what it is given exactly as the real one does. Type against `AnyNightcrew`, and both fit.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from nightcrew._intake import check_batch, check_dedup_key, check_job_id, payload_json
from nightcrew._publisher import Outgoing
from nightcrew._uuid7 import uuid7
from nightcrew._validation import check_amount, check_context, check_counts, check_key, check_outcome, event_hour
from nightcrew.errors import ClosedError, QueueFullError
from nightcrew.jobs import JobHandle
from nightcrew.testing_cache import RecordingCache
from nightcrew.usage import tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from nightcrew.jobs import JobState
    from nightcrew.messages import Message

_SECONDS_PER_HOUR = 3600


class AnyUsageCounter(Protocol):
    """What `UsageCounter` and `RecordingUsageCounter` both are; raises as the former does."""

    @property
    def pending(self) -> int:
        """Distinct counts on their way."""

    def increment(
        self,
        key: str,
        *,
        context: str = "",
        accepted: bool | None = None,
        amount: int = 1,
        at: datetime | None = None,
    ) -> None:
        """Count one use, or several."""

    def increment_many(
        self,
        keys: Mapping[str, int] | Iterable[str],
        *,
        context: str = "",
        accepted: bool | None = None,
        at: datetime | None = None,
    ) -> None:
        """Count many keys, all or none."""

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the counts have arrived."""

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing more; wait for what is on its way."""


class AnyNightcrew(Protocol):
    """What `Nightcrew` and `RecordingNightcrew` both are; raises as the former does."""

    @property
    def usage(self) -> AnyUsageCounter:
        """The counts."""

    def enqueue(
        self,
        message: Message,
        *,
        dedup_key: str | None = None,
        job_id: str | None = None,
        correlation_id: str | None = None,
    ) -> JobHandle:
        """Hand a job over."""

    def enqueue_many(
        self,
        messages: Sequence[Message],
        *,
        job_ids: Sequence[str] | None = None,
        correlation_id: str | None = None,
    ) -> list[JobHandle]:
        """Hand jobs over, all or none."""

    def job(self, job_id: str) -> JobHandle:
        """Give the handle of an earlier job."""

    def close(self) -> None:
        """Take nothing more; wait for what is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedJob:
    """One call of `enqueue`."""

    message: Message
    job_id: str
    correlation_id: str
    dedup_key: str | None


class RecordingUsageCounter:
    """Counts in a dict."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, bool | None], int] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def pending(self) -> int:
        """Nothing ever waits."""
        return 0

    def counts(self) -> dict[tuple[str, str, bool | None], int]:
        """Give what was counted, by key, context and outcome; the hour is left out."""
        with self._lock:
            return dict(self._counts)

    def total(self, key: str) -> int:
        """Give how often a key was counted, whatever the context and outcome."""
        return sum(amount for (counted, _, _), amount in self.counts().items() if counted == key)

    def increment(
        self,
        key: str,
        *,
        context: str = "",
        accepted: bool | None = None,
        amount: int = 1,
        at: datetime | None = None,
    ) -> None:
        """Count as `UsageCounter.increment` does."""
        self._add({check_key(key): check_amount(amount)}, context, accepted, at)

    def increment_many(
        self,
        keys: Mapping[str, int] | Iterable[str],
        *,
        context: str = "",
        accepted: bool | None = None,
        at: datetime | None = None,
    ) -> None:
        """Count as `UsageCounter.increment_many` does."""
        self._add(check_counts(tally(keys)), context, accepted, at)

    def flush(self, timeout_s: float | None = None) -> None:
        """Nothing waits."""

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing more."""
        del timeout_s
        self._closed = True

    def _add(self, counts: dict[str, int], context: object, accepted: bool | None, at: object) -> None:  # noqa: FBT001
        if self._closed:
            raise ClosedError("this RecordingNightcrew was closed: nothing more can be counted with it")
        plain_context = check_context(context)
        check_outcome(accepted)
        if at is not None:
            event_hour(at, now_hour=int(time.time()) // _SECONDS_PER_HOUR)
        with self._lock:
            for key, amount in counts.items():
                entry = (key, plain_context, accepted)
                self._counts[entry] = self._counts.get(entry, 0) + amount


class RecordingNightcrew:
    """A `Nightcrew` without a broker. Jobs stay `queued` until the test ends them with `finish`.

    `caps` says for a kind, or for `*`, how many of its jobs may be queued, as the settings of a crew do.
    """

    def __init__(
        self, *, correlation_id: Callable[[], str] | None = None, caps: Mapping[str, int] | None = None
    ) -> None:
        self.usage = RecordingUsageCounter()
        self.jobs: list[RecordedJob] = []
        self._caps = dict(caps or {})
        self._correlation_id = correlation_id
        self._mirrors: dict[str, dict[str, str]] = {}
        self._closed = False
        self._cache = RecordingCache()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cache(self) -> RecordingCache:
        """The cache of this client, without a Redis; needs no extra."""
        return self._cache

    def enqueued(self, kind: str | None = None) -> list[Message]:
        """Give the messages handed over so far, in order, all or those of one kind."""
        return [job.message for job in self.jobs if kind is None or job.message.kind == kind]

    def finish(self, job_id: str, *, result: Any = None, state: JobState = "succeeded", error: str = "") -> None:
        """Let a job end, so that its handle gives this state and result."""
        self._mirrors[job_id] |= {"state": state, "result": json.dumps(result), "error": error, "progress": "1"}

    def enqueue(
        self,
        message: Message,
        *,
        dedup_key: str | None = None,
        job_id: str | None = None,
        correlation_id: str | None = None,
    ) -> JobHandle:
        """Remember the job."""
        self._check_open()
        job = self._outgoing(message, dedup_key=dedup_key, job_id=job_id, correlation_id=correlation_id)
        return self._submit([job])[0]

    def enqueue_many(
        self,
        messages: Sequence[Message],
        *,
        job_ids: Sequence[str] | None = None,
        correlation_id: str | None = None,
    ) -> list[JobHandle]:
        """Remember the jobs, all or none."""
        self._check_open()
        ids: Sequence[str | None] = [None] * len(messages) if job_ids is None else job_ids
        return self._submit(
            [
                self._outgoing(message, dedup_key=None, job_id=job_id, correlation_id=correlation_id)
                for message, job_id in zip(messages, ids, strict=True)
            ]
        )

    def job(self, job_id: str) -> JobHandle:
        """Give a handle."""
        return JobHandle(check_job_id(job_id), None, self._read_mirror)

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True
        self.usage.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this RecordingNightcrew was closed: nothing more can be handed over with it")

    def _outgoing(
        self, message: Message, *, dedup_key: str | None, job_id: str | None, correlation_id: str | None
    ) -> Outgoing:
        checked_id = str(uuid7()) if job_id is None else check_job_id(job_id)
        if correlation_id is None:
            correlation_id = checked_id if self._correlation_id is None else self._correlation_id()
        return Outgoing(
            message=message,
            job_id=checked_id,
            correlation_id=correlation_id,
            enqueued_at=datetime.now(UTC),
            dedup_key=check_dedup_key(dedup_key),
        )

    def _submit(self, jobs: Sequence[Outgoing]) -> list[JobHandle]:
        check_batch([payload_json(job) for job in jobs])
        new = {job.job_id: job for job in jobs if job.job_id not in self._mirrors}  # the same id again: no second job
        self._check_caps(new, tuple(job.job_id for job in jobs))
        for job in new.values():
            self.jobs.append(
                RecordedJob(
                    message=job.message,
                    job_id=job.job_id,
                    correlation_id=job.correlation_id,
                    dedup_key=job.dedup_key,
                )
            )
            self._mirrors[job.job_id] = {"state": "queued", "kind": job.message.kind}
        return [JobHandle(job.job_id, job.message.kind, self._read_mirror) for job in jobs]

    def _check_caps(self, new: Mapping[str, Outgoing], job_ids: tuple[str, ...]) -> None:
        for kind, count in Counter(job.message.kind for job in new.values()).items():
            cap = self._caps.get(kind, self._caps.get("*"))
            waiting = sum(one["kind"] == kind and one["state"] == "queued" for one in self._mirrors.values())
            if cap is not None and waiting + count > cap:
                raise QueueFullError(kind=kind, waiting=waiting, cap=cap, job_ids=job_ids)

    def _read_mirror(self, job_id: str) -> Mapping[str, str]:
        return self._mirrors.get(job_id, {})
