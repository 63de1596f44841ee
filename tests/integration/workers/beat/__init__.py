"""A real beat on a real Redis."""
