"""Tests of what is decided about PostgreSQL without touching it."""
