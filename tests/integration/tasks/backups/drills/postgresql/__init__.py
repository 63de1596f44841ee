"""Restored PostgreSQL databases in drills."""
