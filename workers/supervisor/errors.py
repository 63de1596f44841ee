"""Why a crew cannot run.

SupervisorError
├── AlreadyRunningError       another supervisor has the data directory
├── DataDirectoryError        the data directory cannot be used as it is
├── BrokerError
│   ├── NoBrokerProgramError  no usable server program on this machine
│   ├── BrokerStartError      the server of the crew did not come up
│   └── BrokerUnreachableError  the broker that the settings name does not answer
├── ChildStartError           a process of the crew ended again and again, or did not come up in time
├── FlowerPortError           another program listens on Flower's port
└── StopRequestedError        a signal asked for an end while the crew was starting

Each text says what to do. The command's exit codes follow from these classes.
"""

from __future__ import annotations

from tasks.errors import CrewError


class SupervisorError(CrewError):
    """Root of the reasons why a crew cannot run."""


class AlreadyRunningError(SupervisorError):
    """Another supervisor has the data directory; `pid` is None when it could not be told."""

    def __init__(self, message: str, *, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which calls the class with `args` alone."""
        return (_already_running_error, (self.args[0], self.pid))


def _already_running_error(message: str, pid: int | None) -> AlreadyRunningError:
    return AlreadyRunningError(message, pid=pid)


class DataDirectoryError(SupervisorError):
    """The data directory cannot be used as it is: owner, mode, or something in the way."""


class BrokerError(SupervisorError):
    """There is no broker to work with."""


class NoBrokerProgramError(BrokerError):
    """No usable server program is on this machine."""


class BrokerStartError(BrokerError):
    """The server of the crew did not come up; the text has the cause from its log."""


class BrokerUnreachableError(BrokerError):
    """The broker that the settings name does not answer."""


class ChildStartError(SupervisorError):
    """A process of the crew did not come up; the text has the end of its log."""


class FlowerPortError(SupervisorError):
    """Another program listens on the port that the settings give to Flower."""


class StopRequestedError(SupervisorError):
    """A signal asked for an end while the crew was starting."""
