"""How long values should stay in a cache: what another time to live would have given, worked out and not guessed.

Kinds: none yet: a study of a file is done where it is asked for.
Tables: none yet.
Keys: none.

Reading order: `traces.py` (what was asked of a cache, as arrays), `reading.py` (files of it), `replay.py` (hits for
each time to live, exactly), `study.py` (the curve of each family).
"""
