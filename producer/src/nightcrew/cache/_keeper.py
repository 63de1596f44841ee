"""What a process knows of the cache, and how it speaks with Redis about it.

Every key has the generation of its family in it; forgetting a family is raising that number. What Redis has not heard
of (deletions, and writes that it did not take) is owed: it is settled before anything else is asked, and never read
until then.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from nightcrew import wire
from nightcrew.cache import _events
from nightcrew.cache._events import Events
from nightcrew.cache._line import AwayError, Line
from nightcrew.cache._local import Debts, LocalCopies
from nightcrew.cache.policy import DEFAULT_POLICY, CachePolicy
from nightcrew.errors import ClosedError, InvalidPolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from redis import Redis

Answer = TypeVar("Answer")

_REFRESH_S: Final = 30.0
"""Policy and generations are read again after this long even if nobody said that they changed."""

_log = logging.getLogger("nightcrew")


class Keeper:
    """One process's side of the cache. Safe for threads."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self.line = Line(url, timeout_s=timeout_s)
        self.local = LocalCopies()
        self.debts = Debts()
        self.policy = DEFAULT_POLICY
        self._origin = secrets.token_hex(8)
        self.is_listening = threading.Event()
        """Whether what other processes say was heard once."""
        self._events: Events | None = None
        self._starting = threading.Lock()
        self._closed = False
        self._generations: dict[str, int] = {}
        self._fresh_until_s = 0.0

    def ask(self, command: Callable[[Redis], Answer]) -> Answer:
        """Ask Redis something, when all is known that must be known first.

        Raises:
            AwayError: it does not answer.
        """
        if self.debts or self._events is None or time.monotonic() >= self._fresh_until_s:
            self._prepare()
        return self.line.ask(command)

    def entry_name(self, family: str, key: str) -> str:
        """Name the key of an entry."""
        return wire.cache_entry(family, self._generations.get(family, 0), key)

    def filler_name(self, family: str, key: str) -> str:
        """Name the lock of its filler."""
        return wire.cache_filler(family, self._generations.get(family, 0), key)

    def read(self, redis: Redis, family: str, keys: list[str]) -> list[bytes | None]:
        """Read entries in one round trip; where the family's time begins anew with each request, it does."""
        names = [self.entry_name(family, key) for key in keys]
        if self.policy.family(family).mode == "fixed":
            return cast("list[bytes | None]", redis.mget(names))
        with redis.pipeline(transaction=False) as pipe:
            for key, name in zip(keys, names, strict=True):
                pipe.getex(name, px=self.whole_ttl_ms(family, key))
            return cast("list[bytes | None]", pipe.execute())

    def whole_ttl_ms(self, family: str, key: str) -> int:
        """Give the time to live of a key, without jitter."""
        return max(1, round(1_000 * self.policy.ttl_s(family, key)))

    def store(self, redis: Redis, family: str, contents: Mapping[str, tuple[bytes, int]]) -> None:
        """Write entries: by key, the content and its time to live in milliseconds."""
        with redis.pipeline(transaction=True) as pipe:
            for key, (content, ttl_ms) in contents.items():
                pipe.set(self.entry_name(family, key), content, px=ttl_ms)
                # Who fills it now began before this value was: what it makes must not take its place.
                pipe.delete(self.filler_name(family, key))
            pipe.publish(wire.CACHE_EVENTS, _events.deleted_event(family, list(contents), self._origin))
            pipe.execute()

    def remove(self, redis: Redis, family: str, keys: list[str]) -> None:
        """Delete entries, and take their fillers the right to write."""
        with redis.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.delete(self.entry_name(family, key), self.filler_name(family, key))
            pipe.publish(wire.CACHE_EVENTS, _events.deleted_event(family, keys, self._origin))
            pipe.execute()

    def forget_family(self, family: str) -> bool:
        """Make everything of a family unread; tell whether Redis has heard of it."""
        self.local.drop_family(family)
        try:
            self.ask(lambda redis: self._raise_generation(redis, family))
        except AwayError:
            self.debts.owe_family(family)
            return False
        return True

    def take_back(self, family: str, keys: Iterable[str]) -> None:
        """What Redis has of these is not what was written or deleted last: read none of it until it is gone."""
        for key in keys:
            self.debts.owe((family, key))
            self.local.drop((family, key))

    def copy_of(self, family: str, key: str) -> bytes | None:
        """Give this process's own copy, unless it may be what was to be deleted."""
        return None if self.debts.covers((family, key)) else self.local.get((family, key))

    def keep_copy(self, family: str, key: str, content: bytes, *, left_ms: float) -> None:
        """Keep a copy for the time of an outage, for no longer than it has left."""
        seconds = min(self.policy.family(family).local_s, left_ms / 1_000)
        if seconds > 0 and not self.debts.covers((family, key)):
            self.local.keep((family, key), content, seconds=seconds)

    def close(self) -> None:
        """Give everything back."""
        self._closed = True
        if self._events is not None:
            self._events.close()
        self.line.close()

    def on_missed(self, redis: Redis) -> None:
        """Hear that anything may have been said meanwhile."""
        self.local.clear()
        self._refresh(redis)
        self.is_listening.set()

    def on_event(self, event: dict[str, Any], redis: Redis) -> None:
        """Hear what another process said."""
        kind, family = event["event"], event.get("family")
        if kind == "deleted" and isinstance(family, str) and event.get("origin") != self._origin:
            self._drop_copies(family, event.get("keys"))
        elif kind == "forgotten" and isinstance(family, str) and isinstance(event.get("generation"), int):
            self._generations[family] = max(self._generations.get(family, 0), event["generation"])
            self.local.drop_family(family)
        elif kind == "policy":
            self._refresh(redis)

    def _drop_copies(self, family: str, keys: object) -> None:
        if not isinstance(keys, list):  # more than could be said one by one
            self.local.drop_family(family)
            return
        for key in keys:
            self.local.drop((family, str(key)))

    def _prepare(self) -> None:
        if self._events is None:
            self._start()
        if self.debts:
            self.line.ask(self._settle)
        if time.monotonic() >= self._fresh_until_s:
            self.line.ask(self._refresh)

    def _start(self) -> None:
        with self._starting:
            if self._closed:
                msg = "this cache was closed"
                raise ClosedError(msg)
            if self._events is None:
                self._events = Events(self._url, timeout_s=max(self._timeout_s, 1.0), listener=self)

    def _refresh(self, redis: Redis) -> None:
        with redis.pipeline(transaction=False) as pipe:
            pipe.get(wire.CACHE_POLICY)
            pipe.hgetall(wire.CACHE_GENERATIONS)
            document, told = pipe.execute()
        if document is not None:
            try:
                self.policy = CachePolicy.from_json(document)
            except InvalidPolicyError as error:
                _log.warning("the policy of the cache cannot be read, the last one holds: %s", error)
        known = {name.decode(errors="replace"): int(number) for name, number in told.items() if number.isdigit()}
        for family, number in known.items():
            self._generations[family] = max(self._generations.get(family, 0), number)
        # A Redis that lost its newest writes must not bring back what was forgotten.
        behind = {name: number for name, number in list(self._generations.items()) if number > known.get(name, 0)}
        if behind:
            redis.hset(wire.CACHE_GENERATIONS, mapping=cast("Any", behind))
        self._fresh_until_s = time.monotonic() + _REFRESH_S

    def _settle(self, redis: Redis) -> None:
        keys, families = self.debts.all()
        for family in families:
            self._raise_generation(redis, family)
        by_family: dict[str, list[str]] = {}
        for family, key in keys:
            by_family.setdefault(family, []).append(key)
        for family, gone in by_family.items():
            self.remove(redis, family, gone)
        self.debts.settle(keys, families)

    def _raise_generation(self, redis: Redis, family: str) -> None:
        raised = int(cast("Any", redis.hincrby(wire.CACHE_GENERATIONS, family, 1)))
        generation = max(raised, self._generations.get(family, 0) + 1)
        if generation != raised:
            redis.hset(wire.CACHE_GENERATIONS, family, str(generation))
        self._generations[family] = generation
        redis.publish(wire.CACHE_EVENTS, _events.forgotten_event(family, generation))
