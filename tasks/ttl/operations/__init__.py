"""What jobs and operators do with the cache's access log and its times to live, each in one call.

Reading order: `collecting.py` (the access log into the counters, and the window of it that the study reads).
"""

from tasks.ttl.operations.collecting import access_window, collect, hourly_counters

__all__ = ["access_window", "collect", "hourly_counters"]
