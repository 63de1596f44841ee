"""The producer library against a real Redis."""
