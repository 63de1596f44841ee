"""Tests of the supervisor that start nothing."""
