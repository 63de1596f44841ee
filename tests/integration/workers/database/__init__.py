"""Engines and migrations, on both databases."""
