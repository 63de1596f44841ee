"""Tests against real Redis, SQLite and PostgreSQL servers that they start themselves."""
