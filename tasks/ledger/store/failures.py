"""What the failures of Redis mean to a job."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def broker_errors() -> Iterator[None]:
    """Translate what Redis raises.

    Raises:
        TransientError: away, loading, full or slow.
    """
    try:
        yield
    except RedisError as error:
        msg = f"broker is in the way: {error}"
        raise TransientError(msg) from error
