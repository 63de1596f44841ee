"""Tests of the whole house: unit (no I/O), integration (real servers), architecture (what imports cannot say)."""
