"""Tests of the capture and the restore of SQLite databases."""
