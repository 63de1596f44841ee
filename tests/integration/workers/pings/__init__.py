"""Pings to a dead-man switch of the test's own."""
