"""The kinds of failure that a job can end with.

    CrewError
    ├── TransientError          the world was in the way: try again by the job's retry policy
    │   └── ResourceBusyError   another run uses what this one needs: try again, and count no attempt
    ├── PermanentError          trying again cannot help: fail at once and tell someone
    ├── LeaseLostError          another worker may hold the run by now: stop, nothing of this attempt is kept
    └── CancelledError          somebody called the run off: stop

Adapters translate the errors of their libraries into these at the edge.
"""

from __future__ import annotations


class CrewError(Exception):
    """Root of the errors of the service."""


class TransientError(CrewError):
    """The world was in the way (a lock, a lost connection, a full disk); the same job may succeed later."""


class PermanentError(CrewError):
    """The job cannot succeed as it stands; the text says what to change."""


class ResourceBusyError(TransientError):
    """Another run holds a resource that only one may use at a time."""


class LeaseLostError(CrewError):
    """The hold on the run is not the current one: another worker may be at it, and nothing of this attempt is kept."""


class CancelledError(CrewError):
    """Somebody called the run off."""
