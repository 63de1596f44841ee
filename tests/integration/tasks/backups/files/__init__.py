"""Tests of captured files."""
