"""Tests of pure modules: no server, no network."""
