"""All I/O of the ledger.

Reading order: `changes.py` (the only ways to change a run: one compare-and-set and one event each), `events.py`,
`leases.py` (resources), `runs.py` (what may be done to a run), `cancelling.py`, `children.py`, `queries.py` (reading
the runs), `slots.py` (the timetable), `letters.py` (SQL of the dead letters), `pings.py`, `retention.py` (forgetting),
`streams.py` (intents and dead letters in Redis), `mirror.py` (what apps see), `waiting.py` (what apps
count), `queues.py` (what waits on the broker).
"""
