"""The process, with real servers."""
