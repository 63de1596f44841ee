"""The steps, oldest first; see `workers/migrations/__init__.py`."""
