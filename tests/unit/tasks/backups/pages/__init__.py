"""Tests of the page lists and deltas."""
