"""Tests of the drills on real servers."""
