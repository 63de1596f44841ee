"""Tests of the parts of the process that need no server."""
