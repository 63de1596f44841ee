"""`crew.cache`: values kept in Redis for a while, by family.

Reading never raises, whatever Redis does: while it is away, a bounded copy of this process answers, or nothing does.
Values are JSON. The clock that ends them is that of Redis.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from nightcrew import _processes
from nightcrew.cache import _entries
from nightcrew.cache._entries import ForeignEntryError
from nightcrew.cache._keeper import Keeper
from nightcrew.cache._line import AwayError
from nightcrew.cache._local import Counters
from nightcrew.cache._recording import NoRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nightcrew.cache._entries import Entry
    from nightcrew.cache._recording import AccessRecorder
    from nightcrew.cache.policy import CachePolicy

Answer = TypeVar("Answer")

_LONGEST_FILL_S: Final = 30.0
_LOOK_AGAIN_S: Final = (0.002, 0.05)
_FILLING_LOCKS: Final = 256


class Cache:
    """The cache as one process sees it. Safe for threads and forks; connects at first use.

    `longest_fill_s`: how long one filler of a key keeps the others waiting, across all processes; a source that takes
    longer is asked by the next one as well. `recorder` hears of each request.

    Raises:
        InvalidUrlError: no Redis can be meant by the address.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 0.5,
        longest_fill_s: float = _LONGEST_FILL_S,
        recorder: AccessRecorder | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._longest_fill_s = longest_fill_s
        self._recorder = recorder or NoRecorder()
        self._clock = clock
        self._chance = random.SystemRandom()
        self._begin()
        _processes.reset_in_children(self)

    @property
    def policy(self) -> CachePolicy:
        """How long what is kept, as far as this process has heard."""
        return self._keeper.policy

    def counters(self) -> dict[str, dict[str, int]]:
        """Give what was asked of each family by this process, exactly: hits, misses, sets, deletes, bytes and more."""
        return self._counters.sums()

    def ping(self) -> bool:
        """Tell whether Redis answers."""
        try:
            return bool(self._keeper.line.ask(lambda redis: redis.ping()))
        except AwayError:
            return False

    def get(self, family: str, key: str, default: Any = None) -> Any:
        """Give a value, or `default` where there is none or Redis is away; never raises but for an unknown family.

        Raises:
            InvalidPolicyError: the policy has no such family.
        """
        entry = self._read(family, key)
        return default if entry is None else entry.value

    def get_many(self, family: str, keys: Iterable[str]) -> dict[str, Any]:
        """Give those of the values that are there, in one round trip.

        Raises:
            InvalidPolicyError: the policy has no such family.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        self.policy.family(family)
        try:
            contents = self._keeper.ask(lambda redis: self._keeper.read(redis, family, wanted))
        except AwayError:
            self._counters.of(family)["errors"] += 1
            found = {key: self._locally(family, key) for key in wanted}
        else:
            found = {key: self._noted(family, key, one) for key, one in zip(wanted, contents, strict=True)}
        return {key: entry.value for key, entry in found.items() if entry is not None}

    def set(self, family: str, key: str, value: Any) -> bool:
        """Keep a value; False where Redis did not take it, which then does not give an older one either.

        Raises:
            UncacheableError: the value is no JSON, or too large.
            InvalidPolicyError: the policy has no such family.
        """
        return self.set_many(family, {key: value})

    def set_many(self, family: str, values: Mapping[str, Any]) -> bool:
        """Keep values in one round trip; raises as `set` does, before any is kept."""
        now_ms = int(self._clock() * 1_000)
        contents: dict[str, tuple[bytes, int]] = {}
        for key, value in values.items():
            ttl_ms = self.policy.ttl_ms(family, key, self._chance)
            contents[key] = _entries.encode(value, written_ms=now_ms, fill_ms=0, ttl_ms=ttl_ms), ttl_ms
        counts = self._counters.of(family)
        for key, (content, _) in contents.items():
            counts["sets"] += 1
            counts["bytes_written"] += len(content)
            self._recorder.record(family, key, "set", hit=False, size_bytes=len(content))
        try:
            self._keeper.ask(lambda redis: self._keeper.store(redis, family, contents))
        except AwayError:
            counts["errors"] += 1
            self._keeper.take_back(family, contents)
            return False
        for key, (content, ttl_ms) in contents.items():
            self._keeper.keep_copy(family, key, content, left_ms=ttl_ms)
        return True

    def delete(self, family: str, key: str) -> bool:
        """Forget a value everywhere; where Redis is away, this process gives none until Redis has heard of it."""
        return self.invalidate(family, [key])

    def invalidate(self, family: str, keys: Iterable[str] | None = None) -> bool:
        """Forget some values, or all of a family, in all processes; tell whether Redis has heard of it.

        Raises:
            InvalidPolicyError: the policy has no such family.
        """
        self.policy.family(family)
        if keys is None:
            return self._keeper.forget_family(family)
        gone = list(dict.fromkeys(keys))
        counts = self._counters.of(family)
        for key in gone:
            counts["deletes"] += 1
            self._recorder.record(family, key, "delete", hit=False, size_bytes=0)
            self._keeper.local.drop((family, key))
        try:
            self._keeper.ask(lambda redis: self._keeper.remove(redis, family, gone))
        except AwayError:
            counts["errors"] += 1
            self._keeper.take_back(family, gone)
            return False
        return True

    def get_or_fill(self, family: str, key: str, fill: Callable[[], Answer]) -> Answer:
        """Give a value; where there is none, have `fill` make it, and keep it. One filler at a time per key.

        Who is not the filler waits for it. A value that is asked for often is made anew before its end, by one of those
        who ask. While Redis is away, there is one filler at a time in each process. What `fill` raises reaches its
        caller, and nothing is kept.

        Raises:
            UncacheableError: what was made is no JSON, or too large.
            InvalidPolicyError: the policy has no such family.
        """
        entry = self._read(family, key)
        if entry is not None and not self._wants_refresh(family, entry):
            return cast("Answer", entry.value)
        with self._filling[hash((family, key)) % _FILLING_LOCKS]:
            return self._fill_once(family, key, fill, entry)

    def write_through(self, family: str, key: str, value: Any, write: Callable[[Any], None]) -> bool:
        """Write to the source, then to the cache. What `write` raises reaches the caller; then nothing is kept.

        Raises:
            UncacheableError: the value is no JSON, or too large; nothing was written.
        """
        _entries.encode(value, written_ms=0, fill_ms=0, ttl_ms=1)
        try:
            write(value)
        except BaseException:
            self.delete(family, key)  # nobody knows whether the source has it
            raise
        return self.set(family, key, value)

    def write_around(self, family: str, key: str, write: Callable[[], None]) -> bool:
        """Write to the source, and have the cache forget what it has; what `write` raises reaches the caller."""
        try:
            write()
        finally:
            heard = self.delete(family, key)
        return heard

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        self._keeper.close()

    def after_fork_in_child(self) -> None:
        """Begin anew: sockets and threads are the parent's, and copies may have been changed halfway."""
        _processes.keep_inherited(self._keeper)
        self._begin()

    def _begin(self) -> None:
        self._keeper = Keeper(self._url, timeout_s=self._timeout_s)
        self._counters = Counters()
        self._filling = [threading.Lock() for _ in range(_FILLING_LOCKS)]

    def _read(self, family: str, key: str) -> Entry | None:
        keeper = self._keeper
        is_sliding = keeper.policy.family(family).mode == "sliding"
        try:
            if is_sliding:
                ttl_ms = keeper.whole_ttl_ms(family, key)
                content = keeper.ask(lambda redis: redis.getex(keeper.entry_name(family, key), px=ttl_ms))
            else:
                content = keeper.ask(lambda redis: redis.get(keeper.entry_name(family, key)))
        except AwayError:
            self._counters.of(family)["errors"] += 1
            return self._locally(family, key)
        return self._noted(family, key, cast("bytes | None", content))

    def _noted(self, family: str, key: str, content: bytes | None) -> Entry | None:
        """Count what Redis said, and keep a copy of it."""
        entry = None
        counts = self._counters.of(family)
        if content is not None:
            try:
                entry = _entries.decode(content)
            except ForeignEntryError:
                counts["errors"] += 1
        if entry is None:
            counts["misses"] += 1
            self._recorder.record(family, key, "get", hit=False, size_bytes=0)
            return None
        counts["hits"] += 1
        counts["bytes_read"] += entry.size_bytes
        self._recorder.record(family, key, "get", hit=True, size_bytes=entry.size_bytes)
        self._keeper.keep_copy(family, key, cast("bytes", content), left_ms=self._left_ms(family, entry))
        return entry

    def _left_ms(self, family: str, entry: Entry) -> float:
        if self.policy.family(family).mode == "sliding":
            return entry.ttl_ms
        return entry.written_ms + entry.ttl_ms - self._clock() * 1_000

    def _locally(self, family: str, key: str) -> Entry | None:
        """Give this process's own copy, unless it is one of what was to be deleted."""
        counts = self._counters.of(family)
        content = self._keeper.copy_of(family, key)
        if content is None:
            counts["misses"] += 1
            self._recorder.record(family, key, "get", hit=False, size_bytes=0)
            return None
        counts["hits"] += 1
        counts["local_hits"] += 1
        counts["bytes_read"] += len(content)
        self._recorder.record(family, key, "get", hit=True, size_bytes=len(content))
        return _entries.decode(content)

    def _wants_refresh(self, family: str, entry: Entry) -> bool:
        eagerness = self.policy.family(family).early_refresh
        return entry.is_worth_refreshing(self._clock() * 1_000, eagerness=eagerness, chance=1.0 - self._chance.random())

    def _fill_once(self, family: str, key: str, fill: Callable[[], Answer], known: Entry | None) -> Answer:
        """Be the filler, or wait until the filler is done; `known` is a value that is good enough meanwhile."""
        token = secrets.token_hex(8)
        deadline, pause_s = time.monotonic() + self._longest_fill_s + 1, _LOOK_AGAIN_S[0]
        while True:
            found = self._peek(family, key)
            if self._is_news(found, known):
                return cast("Answer", cast("Entry", found).value)  # somebody else was faster
            try:
                if self._take_right(family, key, token):
                    if self._is_news(again := self._peek(family, key), known):
                        # The one before was done between the look and the right.
                        self._give_right_back(self._keeper.filler_name(family, key), token)
                        return cast("Answer", cast("Entry", again).value)
                    return self._fill(family, key, fill, token)
            except AwayError:
                return self._fill(family, key, fill, None)
            if known is not None:
                return cast("Answer", known.value)
            if time.monotonic() >= deadline:
                return self._fill(family, key, fill, None)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_AGAIN_S[1])

    @staticmethod
    def _is_news(found: Entry | None, known: Entry | None) -> bool:
        return found is not None and (known is None or found.written_ms != known.written_ms)

    def _peek(self, family: str, key: str) -> Entry | None:
        """Look without counting: it is the same request still."""
        keeper = self._keeper
        content = keeper.copy_of(family, key) if keeper.line.is_open else None
        if not keeper.line.is_open:
            try:
                content = cast("bytes | None", keeper.ask(lambda redis: redis.get(keeper.entry_name(family, key))))
            except AwayError:
                content = keeper.copy_of(family, key)
        with suppress(ForeignEntryError):
            return None if content is None else _entries.decode(content)
        return None

    def _take_right(self, family: str, key: str, token: str) -> bool:
        keeper, longest_ms = self._keeper, max(1, round(self._longest_fill_s * 1_000))
        name = keeper.filler_name(family, key)
        return bool(keeper.ask(lambda redis: redis.set(name, token, px=longest_ms, nx=True)))

    def _fill(self, family: str, key: str, fill: Callable[[], Answer], token: str | None) -> Answer:
        names = self._keeper.entry_name(family, key), self._keeper.filler_name(family, key)
        began_s = time.monotonic()
        written_ms = int(self._clock() * 1_000)  # before the source is asked: what it says may be as old as that
        try:
            value = fill()
            fill_ms = max(1, round(1_000 * (time.monotonic() - began_s)))
            ttl_ms = self.policy.ttl_ms(family, key, self._chance)
            content = _entries.encode(value, written_ms=written_ms, fill_ms=fill_ms, ttl_ms=ttl_ms)
        except BaseException:
            self._give_right_back(names[1], token)
            raise
        counts = self._counters.of(family)
        counts["fills"] += 1
        counts["sets"] += 1
        counts["bytes_written"] += len(content)
        self._recorder.record(family, key, "set", hit=False, size_bytes=len(content))
        kept = token is None
        if token is not None:
            with suppress(AwayError):
                kept = bool(self._keeper.ask(lambda redis: _write_filled(redis, names, token, content, ttl_ms)))
        if kept:
            self._keeper.keep_copy(family, key, content, left_ms=ttl_ms - fill_ms)
        return value

    def _give_right_back(self, name: str, token: str | None) -> None:
        if token is not None:
            with suppress(AwayError):  # it ends by itself
                self._keeper.ask(lambda redis: redis.delete(name))


def _write_filled(redis: Any, names: tuple[str, str], token: str, content: bytes, ttl_ms: int) -> Any:
    return redis.eval(_script(), 2, *names, token, content, ttl_ms)


@cache
def _script() -> str:
    return files("nightcrew.cache").joinpath("cache.lua").read_text(encoding="utf-8")
