"""Pages of a scan: by one script that the server may only read with, or by pipelines where scripts are barred."""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import NoScriptError, ResponseError

from tasks.ttl.scan_sample import GONE, UNKNOWN, KeyFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.ttl.scans import How
    from tasks.ttl.store.scan_connection import ScanConnection

# Time of the server, where it lets a script see one: its CPU clock, or TIME where that does not stand still in a
# script; 0 says that neither is there. A lookup that is refused looks nothing up: -3, and no hit is counted for it.
SCRIPT: Final = """
local function clock_us()
  local is_there, now = pcall(function() return os.clock() end)
  if is_there then return now * 1000000 end
  local said = redis.pcall('TIME')
  if said.err then return 0 end
  return said[1] * 1000000 + said[2]
end
local function number(said, absent)
  if type(said) == 'table' then return -3 end
  if said then return said end
  return absent
end
local began = clock_us()
local page = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2])
local facts = {}
for _, key in ipairs(page[2]) do
  local ttl, idle, size = -3, -3, -3
  if ARGV[3] == '1' then ttl = number(redis.pcall('PTTL', key), -3) end
  if ARGV[4] == '1' then idle = number(redis.pcall('OBJECT', 'IDLETIME', key), -2) end
  if ARGV[5] == '1' then size = number(redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', '5'), -2) end
  facts[#facts + 1] = key
  facts[#facts + 1] = ttl
  facts[#facts + 1] = idle
  facts[#facts + 1] = size
end
return {page[1], math.floor(clock_us() - began), facts}
"""

_SHA: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a page is to tell of each key."""

    ttl: bool = True
    idle: bool = True
    size: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page."""

    cursor: bytes
    """Where the next one begins; `0` after the last."""
    facts: Sequence[KeyFacts]
    """Of keys that were there when they were looked at."""
    given: int
    """Keys that SCAN gave."""
    hits: int
    misses: int
    """What its lookups added to the counters of the server."""
    server_s: float
    """Time of the server, by its own clock; 0 where it tells none."""
    waited_s: float
    """Time from here until the answers were here."""
    round_trips: int

    @property
    def is_last(self) -> bool:
        """Whether the scan has seen everything."""
        return self.cursor == b"0"


class Pages(Protocol):
    """A way to read pages."""

    how: How

    def read(self, cursor: bytes, count: int) -> Page:
        """Read the page at a cursor.

        Raises:
            RedisError: as redis-py raises it.
        """


class ScriptedPages:
    """One round trip a page, during which nobody else is served."""

    how: How = "script"

    def __init__(self, connection: ScanConnection, wanted: Wanted, *, by_hash: bool) -> None:
        self._connection = connection
        self._wanted = wanted
        self._by_hash = by_hash

    def probe(self) -> bool:
        """Tell whether the server lets us; costs a key and looks nothing up."""
        try:
            self._run(b"0", 1, Wanted(ttl=False, idle=False, size=False))
        except ResponseError:
            return False
        return True

    def read(self, cursor: bytes, count: int) -> Page:
        """Read a page."""
        began = time.perf_counter()
        next_cursor, took_us, flat = self._run(cursor, count, self._wanted)
        waited_s = time.perf_counter() - began
        rows = [KeyFacts(*flat[at : at + 4]) for at in range(0, len(flat), 4)]
        return _page(self._connection, next_cursor, rows, (took_us / 1_000_000, waited_s, 1))

    def _run(self, cursor: bytes, count: int, wanted: Wanted) -> Any:
        flags = [str(int(flag)) for flag in (wanted.ttl, wanted.idle, wanted.size)]
        if not self._by_hash:
            return self._connection.ask("EVAL_RO", SCRIPT, 0, cursor, count, *flags)
        try:
            return self._connection.ask("EVALSHA_RO", _SHA, 0, cursor, count, *flags)
        except NoScriptError:  # not yet, or somebody made the server forget its scripts
            self._connection.ask("SCRIPT LOAD", SCRIPT)
            return self._connection.ask("EVALSHA_RO", _SHA, 0, cursor, count, *flags)


class PipelinedPages:
    """Two round trips a page; others may be served in between."""

    how: How = "pipeline"

    def __init__(self, connection: ScanConnection, wanted: Wanted) -> None:
        self._connection = connection
        self._wanted = wanted

    def read(self, cursor: bytes, count: int) -> Page:
        """Read a page."""
        began = time.perf_counter()
        (said,) = self._connection.ask_many([("SCAN", cursor, "COUNT", count)])
        if isinstance(said, ResponseError):
            raise said
        next_cursor, keys = said
        wanted = self._wanted
        answers = [
            self._of_each(keys, ("PTTL",), (), UNKNOWN) if wanted.ttl else [UNKNOWN] * len(keys),
            self._of_each(keys, ("OBJECT", "IDLETIME"), (), GONE) if wanted.idle else [UNKNOWN] * len(keys),
            self._of_each(keys, ("MEMORY", "USAGE"), ("SAMPLES", "5"), GONE) if wanted.size else [UNKNOWN] * len(keys),
        ]
        waited_s = time.perf_counter() - began
        round_trips = 1 + wanted.ttl + wanted.idle + wanted.size
        return _page(self._connection, next_cursor, list(map(KeyFacts, keys, *answers)), (0.0, waited_s, round_trips))

    def _of_each(
        self, keys: Sequence[bytes], before: tuple[str, ...], behind: tuple[str, ...], absent: int
    ) -> list[int]:
        """Ask the same of each key: a command is the words before it, the key, and the words behind it."""
        answers = self._connection.ask_many([(*before, key, *behind) for key in keys])
        return [_number(answer, absent) for answer in answers]


def open_pages(connection: ScanConnection, wanted: Wanted, *, use_script: bool) -> ScriptedPages | PipelinedPages:
    """Choose the way that disturbs least of those that the server lets us go."""
    if use_script:
        for by_hash in (True, False):
            pages = ScriptedPages(connection, wanted, by_hash=by_hash)
            if pages.probe():
                return pages
    return PipelinedPages(connection, wanted)


def _page(connection: ScanConnection, cursor: bytes, rows: Sequence[KeyFacts], times: tuple[float, float, int]) -> Page:
    times_asked = sum(row.ttl_ms != UNKNOWN for row in rows)
    idle_asked = sum(row.idle_s != UNKNOWN for row in rows)
    sizes_asked = sum(row.size_bytes != UNKNOWN for row in rows)
    connection.asked.update(
        {"scan": 1, "pttl": times_asked, "object|idletime": idle_asked, "memory|usage": sizes_asked}
    )
    misses = sum((row.ttl_ms == GONE) + (row.idle_s == GONE) for row in rows)
    server_s, waited_s, round_trips = times
    return Page(
        cursor=cursor,
        facts=[row for row in rows if GONE not in row[1:]],
        given=len(rows),
        hits=times_asked + idle_asked - misses,
        misses=misses,
        server_s=max(0.0, server_s),
        waited_s=waited_s,
        round_trips=round_trips,
    )


def _number(answer: Any, absent: int) -> int:
    if isinstance(answer, ResponseError):
        return UNKNOWN
    return absent if answer is None else int(answer)
