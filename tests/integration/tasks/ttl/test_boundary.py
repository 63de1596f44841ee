"""When a real Redis drops a key: the replay holds it for the millisecond of its expiry, and so does the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.ttl.replay import MODES, count_hits
from tests.support.traces import trace_of

if TYPE_CHECKING:
    from tests.support.redis import RedisServer

# A key for each millisecond of the time to come; one that is over when it is set would be deleted by the setting.
_SET = """
local now = redis.call('TIME')
local first = now[1] * 1000 + math.floor(now[2] / 1000) + 20
for ms = first, first + 300 do
  redis.call('SET', string.format('%d', ms), 'v', 'PXAT', string.format('%d', ms))
end
return string.format('%d', first)
"""
# In a script the clock of expiry stands still. TIME is asked first, right after it was stopped.
_LOOK = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local there = {string.format('%d', ms)}
for around = ms - 3, ms + 3 do
  there[#there + 1] = redis.call('EXISTS', string.format('%d', around))
end
return there
"""
_AROUND = 3


def test_a_key_is_there_in_the_millisecond_of_its_expiry(redis_server: RedisServer) -> None:
    """Of keys that expire from 3 ms ago to in 3 ms, those of now are there and those before are not."""
    client = redis_server.client()
    first = int(client.eval(_SET, 0))
    looks: list[list[int]] = []
    now = 0
    while now < first + 200:
        said, *there = client.eval(_LOOK, 0)
        if (now := int(said)) >= first + _AROUND:
            looks.append(there)
    # Between the two clocks a millisecond may begin; in most of the looks none does.
    assert len(looks) > 50
    assert looks.count([0, 0, 0, 1, 1, 1, 1]) > len(looks) / 2, looks[:5]
    for mode in MODES:
        assert count_hits(trace_of([0, 100], [1, 1]), [99, 100, 101], mode).tolist() == [0, 1, 1]
