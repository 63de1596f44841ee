"""Tests of the restore points."""
