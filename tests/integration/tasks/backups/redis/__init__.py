"""Tests of captured Redis servers, on real ones."""
