"""A cache of a million keys in five families, of which every size is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis import Redis

FAMILIES: Final = {"defaults": 40, "sessions": 25, "statistics": 20, "models": 10, "configuration": 5}
"""Family to its share of the keys in percent."""

_CHUNK: Final = 10_000
_HUNDREDTHS: Final = tuple(family for family, share in FAMILIES.items() for _ in range(share))

# Three strings and a hash, of sizes that differ by a factor of sixty; the server says what each takes in memory, to
# the last field. It is filled by itself: no client has to send half a gigabyte.
_FILL: Final = """
local taken = {}
for at = 1, #KEYS do
  local number = tonumber(ARGV[1]) + at - 1
  local room = 16 * 2 ^ (number * 7 % 61 / 10)
  if number % 4 == 3 then
    for field = 1, 2 + number % 30 do
      redis.call('HSET', KEYS[at], 'field' .. field, string.rep('v', room / 16))
    end
    redis.call('PEXPIRE', KEYS[at], 3600000 + number)
  else
    redis.call('SET', KEYS[at], string.rep('v', room), 'PX', 3600000 + number)
  end
  taken[at] = redis.call('MEMORY', 'USAGE', KEYS[at], 'SAMPLES', '0')
end
return taken
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What lies in the cache."""

    keys: Mapping[str, int]
    size_bytes: Mapping[str, int]


def family_of(number: int) -> str:
    """Give the family of the n-th key."""
    return _HUNDREDTHS[number % 100]


def key_of(number: int) -> str:
    """Name the n-th key."""
    return f"nightcrew:cache:{family_of(number)}:0:{number}"


def fill(redis: Redis, keys: int) -> Filled:
    """Fill an empty database."""
    counted, taken = dict.fromkeys(FAMILIES, 0), dict.fromkeys(FAMILIES, 0)
    script: Any = redis.register_script(_FILL)
    for first in range(0, keys, _CHUNK):
        numbers = range(first, min(first + _CHUNK, keys))
        sizes = script(keys=[key_of(number) for number in numbers], args=[first])
        for number, size in zip(numbers, sizes, strict=True):
            counted[family_of(number)] += 1
            taken[family_of(number)] += size
    return Filled(keys=counted, size_bytes=taken)
