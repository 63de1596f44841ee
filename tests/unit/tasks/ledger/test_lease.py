"""The thread that renews a lease."""

from __future__ import annotations

import threading

import pytest

from tasks.errors import TransientError
from tasks.ledger.lease import Lease
from tests.support import wait_until


def test_lease_is_renewed_until_the_block_ends() -> None:
    """Renewals go on during the block, and none comes after it."""
    renewals: list[bool] = []

    def renew() -> bool:
        renewals.append(True)
        return True

    with Lease(renew, interval_s=0.001) as lease:
        wait_until(lambda: len(renewals) >= 3, timeout_s=5, what="three renewals")
    count = len(renewals)
    assert not lease.is_lost
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]
    assert len(renewals) == count


def test_superseded_claim_is_noticed() -> None:
    """A renewal that finds another claim marks the lease as lost and stops."""
    renewals: list[bool] = []

    def renew() -> bool:
        renewals.append(False)
        return False

    with Lease(renew, interval_s=0.001) as lease:
        wait_until(lambda: lease.is_lost, timeout_s=5, what="the loss")
    assert len(renewals) == 1


def test_renewal_outlives_a_database_that_is_away() -> None:
    """A renewal that fails for the moment is tried again and loses nothing."""
    answers = iter([TransientError("locked"), TransientError("locked")])
    renewals: list[bool] = []

    def renew() -> bool:
        if (error := next(answers, None)) is not None:
            raise error
        renewals.append(True)
        return True

    with Lease(renew, interval_s=0.001) as lease:
        wait_until(lambda: renewals, timeout_s=5, what="a renewal after two failures")
        assert not lease.is_lost


def test_lease_ends_with_the_error_of_the_work() -> None:
    """An error of the work passes through, and the thread is gone."""
    with pytest.raises(ZeroDivisionError), Lease(lambda: True, interval_s=0.001):
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_only_work_that_takes_its_time_is_shown() -> None:
    """Once, and before the first renewal; short work is over before."""
    shown: list[str] = []
    with Lease(lambda: True, interval_s=60, show=lambda: shown.append("short")):
        pass
    with Lease(lambda: True, interval_s=60, show=lambda: shown.append("long")):
        wait_until(lambda: shown, timeout_s=5, what="a sign of work")
    assert shown == ["long"]
