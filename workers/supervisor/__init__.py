"""Everything that `nightcrew up` runs, under one process: broker, workers, beat, Flower.

What it promises: no process outlives it, even when it is killed; two servers never share an append-only
file; what dies is started again; the end takes less than 20 s and loses nothing.

Owns under the data directory: `broker.lock`, `broker/`, `logs/`, `run/` (`crew.json`, sockets),
`flower.password`. Owns no message kinds, Redis keys or tables.

Reading order: `errors.py`, `restarts.py`, `spawn.py`, `child.py` (one process), `lock.py`,
`directories.py`, `broker_program.py`, `broker_configuration.py`, `broker.py`, `flower.py`, `notify.py`
(who is ready), `inbox.py` (what to wait for), `members.py` (who is in the crew), `crew_file.py`,
`crew.py`; `crew_process.py` for those who drive a crew from outside.
"""
