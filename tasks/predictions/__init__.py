"""Which value comes next, learned from the uses before: models, what vouches for them, and batches of predictions.

Kinds: none yet.
Tables: none yet.
Keys: none.

Reading order: `events.py` (uses as arrays), `reading.py` (files of them), `past.py` (what was to be seen at an
instant), `candidates.py`, `features/`, `ranking.py` (a model at work), `rules.py` (what it has to beat), `measures.py`,
`learning.py`, `manifest.py` (what vouches for a model), `drift.py`, `merging.py`.
"""
