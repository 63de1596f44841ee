"""`Nightcrew`: what an app holds. One per process is enough; it connects at first use."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from nightcrew import _processes, _redis
from nightcrew._intake import Intake, check_dedup_key, check_job_id
from nightcrew._mirror import Mirror
from nightcrew._publisher import Outgoing, Publisher
from nightcrew._usage_log import UsageLog
from nightcrew._uuid7 import uuid7
from nightcrew.errors import ClosedError, EnqueueError, FlushError, MissingExtraError
from nightcrew.jobs import JobHandle
from nightcrew.messages.usage import DrainUsage
from nightcrew.signing import Signer, SigningKey
from nightcrew.usage import UsageCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from nightcrew._batch import Batch
    from nightcrew.cache._shipping import AccessShipper
    from nightcrew.cache.client import Cache
    from nightcrew.messages import Message

_log = logging.getLogger("nightcrew")


class Nightcrew:
    """The crew as an app sees it. Safe for threads and forks; never touches the app's own Celery.

    `url`: `redis://`, `rediss://` or `unix://`. `timeout_s` bounds every call that talks to Redis
    (looking up a host name aside). `flush_interval_s`: how long counts wait in memory. `max_pending`:
    distinct counts kept while Redis is away. `spool`: a directory in which counts wait instead, so that
    not even `kill -9` loses one; slower, see the README. `correlation_id`: gives the id of what the app is
    doing (a request, say), which then stands in the logs of the crew; by default each job has its own.
    `signing_key`: `id:secret` as `nightcrew config new-signing-key` prints it; signs everything that is handed over.
    `cache_url`: where the cache is, if it is another Redis than the crew's.
    `heeds_caps`: false only for an operator's tool, whose jobs are never refused because too many wait.

    Raises:
        InvalidUrlError: the address is none of these.
        InvalidSigningKeyError: the key is none.
        SpoolError: the spool cannot be used.
    """

    def __init__(  # noqa: PLR0913  each is one thing that an app may want
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        flush_interval_s: float = 1.0,
        max_pending: int = 200_000,
        spool: Path | None = None,
        correlation_id: Callable[[], str] | None = None,
        heeds_caps: bool = True,
        signing_key: str | None = None,
        cache_url: str | None = None,
    ) -> None:
        for one in (url, cache_url or url):
            _redis.kombu_url(one)  # a wrong address is told where it is written, not where it is first used
        _check_positive(timeout_s=timeout_s, flush_interval_s=flush_interval_s, max_pending=max_pending)
        self._url = url
        self._timeout_s = timeout_s
        self._correlation_id = correlation_id
        self._heeds_caps = heeds_caps
        self._signer = None if signing_key is None else Signer([SigningKey.parse(signing_key)])
        self._cache_url = cache_url or url
        self._making_cache = threading.Lock()
        self._made_cache: tuple[Cache, AccessShipper] | None = None
        self._closed = False
        self._begin()
        self.usage = UsageCounter(
            self._append,
            flush_interval_s=flush_interval_s,
            timeout_s=timeout_s,
            max_pending=max_pending,
            spool=spool,
            started=lambda: _processes.call_at_child_exit(self._close_at_exit),
        )
        _processes.reset_in_children(self)
        _processes.call_at_exit(self._close_at_exit)

    def __repr__(self) -> str:
        return f"Nightcrew({_redis.mask_url(self._url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cache(self) -> Cache:
        """The cache, made at first use. What it is asked for is counted, and sampled for the study of times to live.

        Raises:
            MissingExtraError: the library was installed without `nightcrew[cache]`.
            ClosedError: this object was closed.
        """
        self._check_open()
        if self._made_cache is None:
            with self._making_cache:
                if self._made_cache is None:
                    self._made_cache = self._make_cache()
        return self._made_cache[0]

    def enqueue(
        self,
        message: Message,
        *,
        dedup_key: str | None = None,
        job_id: str | None = None,
        correlation_id: str | None = None,
    ) -> JobHandle:
        """Hand a job over; it is durable when this returns.

        Of jobs of one kind with the same `dedup_key` only the first is run. `job_id` is given when a call
        is repeated, see `EnqueueError`.

        Raises:
            InvalidMessageError: the message cannot be sent as it is.
            QueueFullError: too many jobs of its kind wait; it will not run.
            EnqueueError: it could not be handed over within `timeout_s`; says whether it may run all the same.
            ClosedError: this object was closed.
        """
        self._check_open()
        item = self._outgoing(message, dedup_key=dedup_key, job_id=job_id, correlation_id=correlation_id)
        self._intake().submit([item])
        return JobHandle(item.job_id, message.kind, self._read_mirror)

    def enqueue_many(
        self,
        messages: Sequence[Message],
        *,
        job_ids: Sequence[str] | None = None,
        correlation_id: str | None = None,
    ) -> list[JobHandle]:
        """Hand up to 10,000 jobs over in a few round trips: all of them, or none. Raises as `enqueue` does."""
        self._check_open()
        ids: Sequence[str | None] = [None] * len(messages) if job_ids is None else job_ids
        items = [
            self._outgoing(message, dedup_key=None, job_id=job_id, correlation_id=correlation_id)
            for message, job_id in zip(messages, ids, strict=True)
        ]
        if items:
            self._intake().submit(items)
        return [JobHandle(item.job_id, item.message.kind, self._read_mirror) for item in items]

    def job(self, job_id: str) -> JobHandle:
        """Give the handle of a job that was handed over earlier or elsewhere."""
        return JobHandle(check_job_id(job_id), None, self._read_mirror)

    def close(self) -> None:
        """Flush the counts and give everything back; a second call does nothing.

        Raises:
            FlushError: Redis did not take all counts in time.
        """
        if self._closed:
            return
        self._closed = True
        _processes.forget_at_exit(self._close_at_exit)
        try:
            self.usage.close()
        finally:
            if self._made_cache is not None:
                cache, shipper = self._made_cache
                cache.close()
                shipper.close()
            self._publisher.close()
            for closable in (self._made_intake, self._log, self._mirror):
                if closable is not None:
                    closable.close()

    def after_fork_in_child(self) -> None:
        """Connect anew: the sockets belong to the parent."""
        _processes.keep_inherited(self._publisher, self._made_intake, self._log, self._mirror)
        self._begin()

    def _begin(self) -> None:
        self._publisher = Publisher(self._url, self._timeout_s, signer=self._signer)
        self._made_intake: Intake | None = None
        self._log: UsageLog | None = None
        self._mirror: Mirror | None = None

    def _make_cache(self) -> tuple[Cache, AccessShipper]:
        try:
            from nightcrew.cache._shipping import AccessShipper
            from nightcrew.cache.client import Cache
        except ModuleNotFoundError as error:
            msg = f"the cache needs {error.name}: pip install 'nightcrew[cache]'"
            raise MissingExtraError(msg) from error
        shipper = AccessShipper(lambda: _redis.connect(self._url, self._timeout_s), signer=self._signer)
        return Cache(self._cache_url, recorder=shipper), shipper

    def _intake(self) -> Intake:
        if self._made_intake is None:  # two threads may both make one; either works, and one is dropped unused
            self._made_intake = Intake(
                self._url, self._timeout_s, self._publisher, heeds_caps=self._heeds_caps, signer=self._signer
            )
        return self._made_intake

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
            has_intent=True,
        )

    def _append(self, batch: Batch) -> None:
        """Hand one batch to the log, from the flusher's thread, and ring the bells that were silent."""
        if self._log is None:
            self._log = UsageLog(_redis.connect(self._url, self._timeout_s), signer=self._signer)
        for partition in self._log.append(batch):
            self._ring(partition)

    def _ring(self, partition: int) -> None:
        job_id = str(uuid7())
        try:
            self._publisher.publish(
                DrainUsage(partition=partition),
                job_id=job_id,
                correlation_id=job_id,
                enqueued_at=datetime.now(UTC),
            )
        except EnqueueError as error:
            # Harmless: the counts are in the log, and the crew's timetable drains it each minute in any case.
            _log.debug("the doorbell of partition %d could not be rung: %s", partition, error)

    def _read_mirror(self, job_id: str) -> Mapping[str, str]:
        if self._mirror is None:
            self._mirror = Mirror(self._url, self._timeout_s)
        return self._mirror.read(job_id)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this Nightcrew was closed: nothing more can be handed over with it")

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except FlushError as error:
            _log.warning("usage counts were left at exit; only a spool keeps them: %s", error)


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            msg = f"{name} must be positive, not {number!r}"
            raise ValueError(msg)
