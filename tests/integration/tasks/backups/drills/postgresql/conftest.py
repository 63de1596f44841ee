"""The servers of the tests of captures."""

from tests.integration.tasks.backups.postgresql.conftest import directory, points_of, start_server

__all__ = ["directory", "points_of", "start_server"]
