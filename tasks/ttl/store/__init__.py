"""What the study keeps and reads: the access log, counters, the scan of the cache, policies."""
