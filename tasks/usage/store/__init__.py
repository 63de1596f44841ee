"""The only I/O of the usage slice.

`log.py` is the log in Redis, `counts.py` writes the database, `queries.py` reads it.
"""

from tasks.usage.store.counts import SqlUsageCounts
from tasks.usage.store.log import RedisUsageLog
from tasks.usage.store.queries import CountRow, HourRow, SortKey, Sums, UsageQueries

__all__ = ["CountRow", "HourRow", "RedisUsageLog", "SortKey", "SqlUsageCounts", "Sums", "UsageQueries"]
