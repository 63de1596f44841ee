"""Reading the mirror that the crew keeps of each job; `jobs.py` says what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nightcrew import _redis, wire
from nightcrew.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mirror:
    """Asks Redis anew each time. Safe for threads."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._redis = _redis.connect(url, timeout_s)

    def read(self, job_id: str) -> Mapping[str, str]:
        """Give all fields, none if there is no mirror.

        Raises:
            JobError: Redis cannot be asked.
        """
        from redis.exceptions import RedisError

        try:
            fields: Any = self._redis.hgetall(wire.job_mirror(job_id))
        except (RedisError, OSError) as error:
            msg = f"the state of job {job_id} cannot be read: {error}"
            raise JobError(msg) from error
        return {name.decode(): value.decode() for name, value in fields.items()}

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()
