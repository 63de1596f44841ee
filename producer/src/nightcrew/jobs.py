"""What became of a job. Apps have no database: they read the mirror that the crew keeps in Redis.

The mirror is the hash `nightcrew:job:<id>` with the fields `state`, `kind`, `attempt`, `progress`,
`progress_text`, `result` (JSON), `error` and `updated_at`. It appears when the crew first touches the
job and expires some time after its end (a day, unless the crew's settings say otherwise); before and
after that the state is `unknown`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from nightcrew.errors import JobError, JobFailedError, JobTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

JobState = Literal["unknown", "queued", "running", "succeeded", "failed", "dead", "missed", "cancelled"]

ENDED_WITHOUT_RESULT: Final = frozenset({"failed", "dead", "missed", "cancelled"})
_FIRST_POLL_S: Final = 0.02
_LONGEST_POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job has come."""

    fraction: float
    """From 0 to 1."""

    text: str
    """What it is doing, in its own words; may be empty."""


class JobHandle:
    """A job that was handed over. Cheap: reading asks Redis anew each time."""

    __slots__ = ("_kind", "_read", "id")

    def __init__(self, job_id: str, kind: str | None, read: Callable[[str], Mapping[str, str]]) -> None:
        self.id = job_id
        self._kind = kind
        self._read = read

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r}, kind={self._kind!r})"

    @property
    def kind(self) -> str:
        """Kind of its message, `unknown` if the crew has not touched it yet and the handle was made from an id.

        Raises:
            JobError: Redis cannot be asked.
        """
        return self._kind or self._read(self.id).get("kind", "unknown")

    def state(self) -> JobState:
        """Ask for the state; `unknown` before the crew has touched the job, and once its mirror has expired.

        Raises:
            JobError: Redis cannot be asked.
        """
        return cast("JobState", self._read(self.id).get("state", "unknown"))

    def progress(self) -> JobProgress:
        """Ask how far it has come.

        Raises:
            JobError: Redis cannot be asked.
        """
        mirror = self._read(self.id)
        return JobProgress(fraction=float(mirror.get("progress") or 0.0), text=mirror.get("progress_text", ""))

    def result(self, timeout_s: float) -> Any:
        """Wait for the end of the job and give its result, which is a JSON value.

        Raises:
            JobFailedError: it ended without one.
            JobTimeoutError: it did not end within `timeout_s`.
            JobError: Redis cannot be asked.
        """
        deadline = time.monotonic() + timeout_s
        poll_s = _FIRST_POLL_S
        while True:
            mirror = self._read(self.id)
            state = mirror.get("state", "unknown")
            if state == "succeeded":
                return _decoded(mirror.get("result"), self.id)
            if state in ENDED_WITHOUT_RESULT:
                msg = f"job {self.id} ended as {state}: {mirror.get('error') or 'no reason was given'}"
                raise JobFailedError(msg)
            if (left_s := deadline - time.monotonic()) <= 0:
                msg = f"job {self.id} did not end within {timeout_s:g} s; its state is {state}"
                raise JobTimeoutError(msg)
            time.sleep(min(poll_s, left_s))
            poll_s = min(1.5 * poll_s, _LONGEST_POLL_S)


def _decoded(result: str | None, job_id: str) -> Any:
    try:
        return json.loads(result) if result else None
    except ValueError as error:
        msg = f"the result of job {job_id} cannot be read: {error}"
        raise JobError(msg) from error
