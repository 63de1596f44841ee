"""The doctor and real things that are wrong."""
