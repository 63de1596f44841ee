"""The producer library without a server."""
