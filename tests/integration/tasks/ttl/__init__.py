"""The TTL slice beside a real Redis."""
