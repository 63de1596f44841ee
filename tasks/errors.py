"""The two kinds of failure that a job can end with.

    CrewError
    ├── TransientError     the world was in the way: try again by the job's retry policy
    └── PermanentError     trying again cannot help: fail at once and tell someone

Adapters translate the errors of their libraries into these at the edge.
"""

from __future__ import annotations


class CrewError(Exception):
    """Root of the errors of the service."""


class TransientError(CrewError):
    """The world was in the way (a lock, a lost connection, a full disk); the same job may succeed later."""


class PermanentError(CrewError):
    """The job cannot succeed as it stands; the text says what to change."""
