"""Tests of the supervisor with real processes, servers and files."""
