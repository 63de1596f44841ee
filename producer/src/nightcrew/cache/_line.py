"""The line to Redis: short timeouts, one more try, and a breaker, so that an outage costs no request a timeout."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pybreaker import STATE_CLOSED, CircuitBreaker, CircuitBreakerError

from nightcrew import _redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

Answer = TypeVar("Answer")

FAILURES: Final = 3
"""In a row, until Redis counts as away."""
OPEN_S: Final = 0.5
"""Then it is asked again after this long, by one request."""
_BACKOFF_S: Final = (0.005, 0.05)


class AwayError(Exception):
    """Redis did not answer, or is not asked for the moment."""


class Line:
    """Asks Redis, or says at once that it is away."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        from redis.backoff import ExponentialWithJitterBackoff
        from redis.retry import Retry

        self.redis: Redis = _redis.connect(url, timeout_s)
        # Whatever the cache says may be said twice: reading, writing the same value, deleting, raising a number to a
        # greater one. A connection that Redis has closed meanwhile costs no request.
        base_s, cap_s = _BACKOFF_S
        self.redis.set_retry(Retry(ExponentialWithJitterBackoff(base=base_s, cap=cap_s), 1))
        self._breaker = CircuitBreaker(fail_max=FAILURES, reset_timeout=OPEN_S)

    @property
    def is_open(self) -> bool:
        """Whether Redis counted as away when it was asked last."""
        return bool(self._breaker.current_state != STATE_CLOSED)

    def ask(self, command: Callable[[Redis], Answer]) -> Answer:
        """Ask Redis something.

        pybreaker holds a lock around each call that it guards: all threads would wait for one. It is told of failures
        and of the recovery, and guards only the request that tries again.

        Raises:
            AwayError: no answer.
        """
        from redis.exceptions import RedisError

        breaker = self._breaker
        try:
            if breaker.current_state != STATE_CLOSED:
                return breaker.call(command, self.redis)
            answer = command(self.redis)
        except CircuitBreakerError as error:
            raise AwayError from error
        except (RedisError, OSError) as error:
            with suppress(CircuitBreakerError, RedisError, OSError):
                breaker.call(_fail, error)
            raise AwayError(str(error)) from error
        if breaker.fail_counter:
            breaker.call(_succeed)
        return answer

    def close(self) -> None:
        """Give the connections back."""
        self.redis.close()


def _fail(error: Exception) -> Any:
    raise error


def _succeed() -> None:
    """Tell the breaker that Redis answers."""
