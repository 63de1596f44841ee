"""What tests stand on: real servers, real processes, deadlines instead of sleeps.

Reading order: `waiting.py`, `processes.py` (everything started here ends here), `redis.py`,
`postgres.py`, `databases.py` (engines), `leftovers.py` (the check at the end of the session). The
fixtures are in `tests/conftest.py`.
"""

from tests.support.waiting import wait_until

__all__ = ["wait_until"]
