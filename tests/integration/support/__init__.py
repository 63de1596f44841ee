"""Tests of the test support: a check that cannot fail proves nothing."""
