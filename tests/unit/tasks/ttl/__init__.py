"""The TTL slice on small and on real traces."""
