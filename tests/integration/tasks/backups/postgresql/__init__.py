"""Captures and restores of PostgreSQL, on real servers that are written to meanwhile."""
