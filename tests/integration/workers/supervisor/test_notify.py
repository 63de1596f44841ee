"""Children that tell when they are ready."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import short_directory
from workers.supervisor.notify import VARIABLE, NotifySocket, tell_ready

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def notifications(monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifySocket]:
    with short_directory() as directory, NotifySocket(directory / "notify.sock") as listener:
        monkeypatch.setenv(VARIABLE, str(listener.path))
        yield listener


def test_a_process_is_named_once(notifications: NotifySocket) -> None:
    """Reading takes the message away."""
    tell_ready()
    assert notifications.ready_pids() == [os.getpid()]
    assert notifications.ready_pids() == []


@pytest.mark.parametrize(
    "message", [b"", b"STATUS=warming up", b"READY=1", b"READY=1\nMAINPID=x", b"READY=0\nMAINPID=7", b"\xff=\xff\n="]
)
def test_other_messages_are_skipped(notifications: NotifySocket, message: bytes) -> None:
    """The protocol has more to say than readiness."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(message, str(notifications.path))
    assert notifications.ready_pids() == []


def test_nobody_is_told_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was started by hand runs all the same."""
    monkeypatch.delenv(VARIABLE, raising=False)
    tell_ready()


def test_the_abstract_namespace_of_systemd_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading @ stands for a NUL byte."""
    name = f"nightcrew-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        monkeypatch.setenv(VARIABLE, f"@{name}")
        tell_ready()
        assert listener.recv(100) == f"READY=1\nMAINPID={os.getpid()}".encode()
