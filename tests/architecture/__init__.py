"""Tests of the shape of the code: what a reviewer would otherwise have to remember."""
