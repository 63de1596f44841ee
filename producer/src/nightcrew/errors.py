"""Everything the producer library raises.

NightcrewError
├── InvalidMessageError      a message or one of its fields is refused        (also ValueError)
├── InvalidUsageError        a key, context, amount or instant is refused     (also ValueError)
├── InvalidUrlError          an address that no Redis can be meant by         (also ValueError)
├── InvalidSigningKeyError   a text that is no signing key                    (also ValueError)
├── BufferFullError          the counts not yet flushed have reached their bound
├── ClosedError              the object was closed
├── EnqueueError             a job could not be handed over; says whether it may run all the same
│   └── QueueFullError       too many jobs of its kind wait already
├── FlushError               flush() could not hand everything over in time
├── SpoolError               the spool file cannot be read or written
└── JobError                 reading a job's state or result failed
    ├── JobFailedError       the job ended as failed, dead, missed or cancelled
    └── JobTimeoutError      the job did not end in time                      (also TimeoutError)
"""

from __future__ import annotations

from typing import Literal

Acceptance = Literal["no", "yes", "unknown"]


class NightcrewError(Exception):
    """Root of all errors of the producer library."""


class InvalidMessageError(NightcrewError, ValueError):
    """A message, its kind or one of its fields is refused; the text says which and why."""


class InvalidUsageError(NightcrewError, ValueError):
    """A key, context, amount or instant of an increment is refused; the text says which and why."""


class InvalidUrlError(NightcrewError, ValueError):
    """The address of the broker is not one of the accepted forms; the text names them."""


class InvalidSigningKeyError(NightcrewError, ValueError):
    """A text is no signing key, or keys do not go together; nothing of the secret is in the text."""


class BufferFullError(NightcrewError):
    """The distinct counts waiting in memory have reached their bound, because the broker is away or slow.

    The increment that raised it was not counted; everything before it is kept.
    """


class ClosedError(NightcrewError):
    """The object was closed and takes nothing more."""


class EnqueueError(NightcrewError):
    """A job could not be handed over within the timeout.

    `accepted` says what happened to it: `no` (it will not run), or `unknown` (the connection broke
    after it was sent: it may run). Calling `enqueue` again with `job_id=error.job_id` never makes
    a second job of it; `job_ids` does the same for `enqueue_many`, whose jobs are accepted all or none.
    """

    def __init__(self, message: str, *, job_id: str, accepted: Acceptance, job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.accepted = accepted
        self.job_ids = job_ids or (job_id,)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which calls the class with `args` alone."""
        return (_enqueue_error, (self.args[0], self.job_id, self.accepted, self.job_ids))


def _enqueue_error(message: str, job_id: str, accepted: Acceptance, job_ids: tuple[str, ...]) -> EnqueueError:
    return EnqueueError(message, job_id=job_id, accepted=accepted, job_ids=job_ids)


class QueueFullError(EnqueueError):
    """As many jobs of a kind wait as its cap lets, or would with these: none of them was taken, none will run.

    `waiting` jobs of `kind` waited at that moment, and at most `cap` may. Trying again at once only adds to the load:
    wait, let go of what can do without, or have the crew's operator raise the cap.
    """

    def __init__(self, *, kind: str, waiting: int, cap: int, job_ids: tuple[str, ...]) -> None:
        new = "1 more" if len(job_ids) == 1 else f"{len(job_ids):,} more"
        super().__init__(
            f"{kind} is full: {waiting:,} jobs wait and at most {cap:,} may, so {new} cannot be taken (none will run); "
            "try again when the crew has caught up (`nightcrew status` says how far it is), or raise the setting "
            "ledger.queue_cap, or ledger.queue_caps for this kind alone",
            job_id=job_ids[0],
            accepted="no",
            job_ids=job_ids,
        )
        self.kind = kind
        self.waiting = waiting
        self.cap = cap

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which calls the class with `args` alone."""
        return (_queue_full_error, (self.kind, self.waiting, self.cap, self.job_ids))


def _queue_full_error(kind: str, waiting: int, cap: int, job_ids: tuple[str, ...]) -> QueueFullError:
    return QueueFullError(kind=kind, waiting=waiting, cap=cap, job_ids=job_ids)


class InvalidPolicyError(NightcrewError, ValueError):
    """No policy of the cache can be meant by this; the text says what is wrong with it."""


class MissingExtraError(NightcrewError, ImportError):
    """A part of the library is used whose dependencies are not installed; the text says how to install them."""


class FlushError(NightcrewError):
    """The counts could not be handed over in time; they are kept and will be tried again."""


class SpoolError(NightcrewError):
    """The spool file cannot be read or written, or belongs to another process."""


class JobError(NightcrewError):
    """A job's state or result cannot be had."""


class JobFailedError(JobError):
    """The job ended without a result: it failed, is dead, was missed or was cancelled."""


class JobTimeoutError(JobError, TimeoutError):
    """The job did not end in the time that the caller gave it."""
