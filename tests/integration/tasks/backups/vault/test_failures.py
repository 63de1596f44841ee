"""What the errors of releases mean that are not on every machine: codes and words as their release notes have them.

Only those of 0.14 were seen; the rest is what the adapter is built to understand.
"""

from __future__ import annotations

import pytest

from tasks.backups.store.programs import Finished
from tasks.backups.store.restic.failures import VaultRefusedError, failure, reason
from tasks.backups.vaults import (
    VaultDamagedError,
    VaultLockedError,
    VaultMissingError,
    VaultPasswordError,
    VaultUnreachableError,
)

AWAY = (
    'Fatal: unable to open config file: Stat: Get "http://127.0.0.1:1/b/?location=": dial tcp 127.0.0.1:1: connect: '
    "connection refused\nIs there a repository at the following location?\ns3:http://127.0.0.1:1/b/x"
)
NO_BUCKET = "Fatal: unable to open config file: Stat: The specified bucket does not exist\nIs there a repository at …"
JSON_ERROR = '{"message_type":"exit_error","code":12,"message":"Fatal: wrong password or no key found"}'
COPYING = "repository 1e837e7a opened\n\nsnapshot 1e837e7a of [/private] at 2026-11-23)\n  copy started, this may take"
CUT = "Load(<data/1>, 9, 0) returned error, retrying after 1s: ReadFull: unexpected EOF\nStreamPack: unexpected EOF"


def ended(code: int, errors: str) -> Finished:
    return Finished(code=code, output="", errors=errors)


@pytest.mark.parametrize(
    ("code", "errors", "expected"),
    [
        (1, "Fatal: wrong password or no key found", VaultPasswordError),
        (12, JSON_ERROR, VaultPasswordError),
        (10, "Fatal: repository does not exist: unable to open config file: stat x: no such file", VaultMissingError),
        (1, "Fatal: unable to open config file: stat /v/config: no such file or directory", VaultMissingError),
        (1, NO_BUCKET, VaultMissingError),
        (11, "unable to create lock in backend: something else", VaultLockedError),
        (1, "unable to create lock in backend: repository is already locked exclusively by PID 3", VaultLockedError),
        (1, AWAY, VaultUnreachableError),
        (1, "Save(<data/1>) returned error, retrying: Please reduce your request rate.", VaultUnreachableError),
        (1, "error for pack 1: 503 Service Unavailable\nFatal: repository contains errors", VaultUnreachableError),
        (1, "Fatal: unable to save snapshot: no space left on device", VaultUnreachableError),
        (1, "unable to create lock in backend: mkdir: permission denied", VaultUnreachableError),
        (1, "Fatal: unable to open config file: Stat: Access Denied.", VaultRefusedError),
        (1, "blob not removed, server response: 403 Forbidden (403)", VaultRefusedError),
        (1, "pack 1: does not exist\nFatal: repository contains errors", VaultDamagedError),
        (1, "ignoring error for /x: ciphertext verification failed\nFatal: There were 1 errors", VaultDamagedError),
        (77, "something that no release has said yet", VaultUnreachableError),
        (130, "signal interrupt received, cleaning up", VaultUnreachableError),
    ],
)
def test_a_failure_is_told_by_code_and_words(code: int, errors: str, expected: type[Exception]) -> None:
    """A place that is away is never taken for one that is empty, nor for one that is damaged."""
    assert type(failure(ended(code, errors), "it failed", is_local=True)) is expected


def test_a_reading_that_ends_early_is_damage_on_a_disk_only() -> None:
    """On the way from a server it is a line that was cut."""
    assert type(failure(ended(1, CUT), "it failed", is_local=True)) is VaultDamagedError
    assert type(failure(ended(1, CUT), "it failed", is_local=False)) is VaultUnreachableError


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (AWAY, "unable to open config file: Stat: Get"),
        (JSON_ERROR, "wrong password or no key found"),
        ("using temporary cache in /x\npack 1: does not exist\nFatal: repository contains errors", "pack 1: does not"),
        (f"{COPYING}\nFatal: server closed", "server closed"),
        (f"{COPYING}\nserver closed", "server closed"),
        ("", "exit code 1"),
    ],
)
def test_the_one_line_says_most(errors: str, expected: str) -> None:
    """Neither the place, which may be private, nor that there were errors."""
    assert reason(ended(1, errors)).startswith(expected)
