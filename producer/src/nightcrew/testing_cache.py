"""A cache without a Redis, for the tests of apps: nothing ends by itself, and nobody else invalidates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nightcrew.cache.policy import DEFAULT_POLICY, CachePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Answer = TypeVar("Answer")

_NAMES: Final = ("hits", "misses", "sets", "deletes", "fills")


class RecordingCache:
    """The surface of `nightcrew.cache.client.Cache`. `is_away` makes it behave as while Redis is away."""

    def __init__(self) -> None:
        self.policy: CachePolicy = DEFAULT_POLICY
        self.values: dict[tuple[str, str], str] = {}
        """What is kept, as JSON, by family and key."""
        self.is_away = False
        self._counts: dict[str, dict[str, int]] = {}

    def counters(self) -> dict[str, dict[str, int]]:
        """Give what was asked of each family."""
        return {family: dict(counts) for family, counts in self._counts.items()}

    def ping(self) -> bool:
        """Tell whether Redis would answer."""
        return not self.is_away

    def get(self, family: str, key: str, default: Any = None) -> Any:
        """Give a value, or `default`."""
        return self.get_many(family, [key]).get(key, default)

    def get_many(self, family: str, keys: Iterable[str]) -> dict[str, Any]:
        """Give those of the values that are there."""
        self.policy.family(family)
        found = {}
        for key in dict.fromkeys(keys):
            text = None if self.is_away else self.values.get((family, key))
            self._count(family, "misses" if text is None else "hits")
            if text is not None:
                found[key] = json.loads(text)
        return found

    def set(self, family: str, key: str, value: Any) -> bool:
        """Keep a value."""
        return self.set_many(family, {key: value})

    def set_many(self, family: str, values: Mapping[str, Any]) -> bool:
        """Keep values; all are checked before one is kept."""
        from nightcrew.cache._entries import encode

        self.policy.family(family)
        for value in values.values():
            encode(value, written_ms=0, fill_ms=0, ttl_ms=1)
        for key, value in values.items():
            self._count(family, "sets")
            self.values.pop((family, key), None)
            if not self.is_away:
                self.values[family, key] = json.dumps(value)
        return not self.is_away

    def delete(self, family: str, key: str) -> bool:
        """Forget a value."""
        return self.invalidate(family, [key])

    def invalidate(self, family: str, keys: Iterable[str] | None = None) -> bool:
        """Forget some values, or all of a family."""
        self.policy.family(family)
        if keys is None:
            self.values = {place: text for place, text in self.values.items() if place[0] != family}
            return not self.is_away
        for key in dict.fromkeys(keys):
            self._count(family, "deletes")
            self.values.pop((family, key), None)
        return not self.is_away

    def get_or_fill(self, family: str, key: str, fill: Callable[[], Answer]) -> Answer:
        """Give a value, or what `fill` makes, and keep it."""
        found: dict[str, Answer] = self.get_many(family, [key])
        if key in found:
            return found[key]
        value = fill()
        self._count(family, "fills")
        self.set(family, key, value)
        return value

    def write_through(self, family: str, key: str, value: Any, write: Callable[[Any], None]) -> bool:
        """Write to the source, then keep."""
        from nightcrew.cache._entries import encode

        encode(value, written_ms=0, fill_ms=0, ttl_ms=1)
        try:
            write(value)
        except BaseException:
            self.delete(family, key)
            raise
        return self.set(family, key, value)

    def write_around(self, family: str, key: str, write: Callable[[], None]) -> bool:
        """Write to the source, and forget."""
        try:
            write()
        finally:
            heard = self.delete(family, key)
        return heard

    def close(self) -> None:
        """Do nothing."""

    def _count(self, family: str, name: str) -> None:
        self._counts.setdefault(family, dict.fromkeys(_NAMES, 0))[name] += 1
