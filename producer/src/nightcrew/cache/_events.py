"""What other processes say of the cache: what was invalidated, and that there is another policy.

Said by publishing, which nobody keeps: after each new subscription everything may have been missed, so the local copies
are dropped and policy and generations are read anew.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from nightcrew import _redis, wire

if TYPE_CHECKING:
    from redis import Redis

_BACKOFF_S: Final = (0.05, 2.0)
_LISTEN_S: Final = 0.5
_MOST_KEYS: Final = 1_000

_log = logging.getLogger("nightcrew")


class Listener(Protocol):
    """Whoever must know."""

    def on_missed(self, redis: Redis) -> None:
        """Take in everything anew."""

    def on_event(self, event: dict[str, Any], redis: Redis) -> None:
        """Take in one thing that was said."""


class Events:
    """Listens in a thread of its own."""

    def __init__(self, url: str, *, timeout_s: float, listener: Listener) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._listener = listener
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nightcrew-cache-events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(self._timeout_s + _LISTEN_S)

    def _run(self) -> None:
        from redis.exceptions import RedisError

        pause_s = _BACKOFF_S[0]
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._listen()
            except (RedisError, OSError) as error:
                _log.debug("the events of the cache are not heard: %s", error)
            except Exception:  # noqa: BLE001  without this thread nothing is heard at all: it must not end
                _log.exception("the events of the cache are not heard")
            # A line that held for a while was a good one: begin with the short pause again.
            pause_s = _BACKOFF_S[0] if time.monotonic() - began_s > _BACKOFF_S[1] else min(2 * pause_s, _BACKOFF_S[1])
            self._stopping.wait(pause_s)

    def _listen(self) -> None:
        redis = _redis.connect(self._url, self._timeout_s)
        try:
            with redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
                channel.subscribe(wire.CACHE_EVENTS)
                redis.ping()
                self._listener.on_missed(redis)
                while not self._stopping.is_set():
                    said: Any = channel.get_message(timeout=_LISTEN_S)
                    if said is not None and (event := read_event(said["data"])) is not None:
                        self._listener.on_event(event, redis)
        finally:
            redis.close()


def policy_event() -> str:
    """Say that there is another policy."""
    return json.dumps({"event": "policy"})


def deleted_event(family: str, keys: list[str], origin: str) -> str:
    """Say that these must not be given from copies any more; who says it has seen to its own already."""
    if len(keys) > _MOST_KEYS:
        return json.dumps({"event": "deleted", "family": family, "keys": None, "origin": origin})
    return json.dumps({"event": "deleted", "family": family, "keys": keys, "origin": origin})


def forgotten_event(family: str, generation: int) -> str:
    """Say that nothing of a family written before holds any more."""
    return json.dumps({"event": "forgotten", "family": family, "generation": generation})


def read_event(text: bytes | str) -> dict[str, Any] | None:
    """Read what was said; None for what nobody here understands."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
