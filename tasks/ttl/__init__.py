"""How long values should stay in a cache: what another time to live would have given, worked out and not guessed.

Kinds: `ttl.collect`; a study of a file is done where it is asked for.
Tables: `cache_hours`, `access_offsets`, `access_producers`, `access_incidents`.
Keys: `nightcrew:access`, which apps write, with `:meta`, `:totals`, `:hot:<family>` and `:producer:<id>`.

Reading order: `traces.py` (what was asked of a cache, as arrays), `reading.py` (files of it), `replay.py` (hits for
each time to live, exactly), `study.py` (the curve of each family); `accesses.py` (one entry of the access log),
`collecting.py` (the log into the counters, once), `operations/`.
"""
