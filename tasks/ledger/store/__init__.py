"""All I/O of the ledger.

Reading order: `runs.py` (SQL of the runs: each change of state is one compare-and-set), `queries.py` (reading them),
`letters.py` (SQL of the dead letters), `streams.py` (intents and dead letters in Redis), `mirror.py` (what apps see),
`queues.py` (what waits on the broker).
"""
