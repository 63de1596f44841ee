"""Tests of the usage slice."""
