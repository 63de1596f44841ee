"""What a dead-man switch hears, and when."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nightcrew._uuid7 import uuid7
from nightcrew.messages import RunCanary
from tasks.ledger.pings import LONGEST_DELAY, MOST_WAITING
from tasks.ledger.runs import wanted_run
from tasks.ledger.states import State
from tasks.ledger.store import changes, pings, runs
from tasks.transactions import begin_write
from tests.support import wait_until
from tests.support.redis import free_port
from tests.support.switch import Heard, listening_switch

if TYPE_CHECKING:
    import pytest

    from tasks.ledger.runs import WantedRun
    from tests.integration.workers.pings.conftest import Ledger, NewSender
    from tests.support.switch import Switch


def test_protocol_is_that_of_healthchecks(ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """Each signal has its path, the id of the run is the rid, the detail is the body; sent is sent."""
    run_id = ledger.tell("start")
    for signal, detail in (("log", "half-way"), ("fail", "disk full"), ("success", None)):
        ledger.tell(signal, detail=detail, run_id=run_id)
    sender = new_sender(ledger, {"nightly": switch.url})
    assert sender.send_due() == 4
    assert switch.heard == [
        Heard(method="POST", path="/canary-key/start", rid=run_id, body=""),
        Heard(method="POST", path="/canary-key/log", rid=run_id, body="half-way"),
        Heard(method="POST", path="/canary-key/fail", rid=run_id, body="disk full"),
        Heard(method="POST", path="/canary-key", rid=run_id, body=""),
    ]
    assert all(row.sent_at == ledger.now and row.error is None for row in ledger.rows())
    assert sender.send_due() == 0


def test_switch_hears_of_what_is_committed_and_of_nothing_else(
    ledger: Ledger, switch: Switch, new_sender: NewSender
) -> None:
    """A change that was undone tells nobody; the same change, committed, does."""
    wanted = replace(watched_run(ledger), entry="nightly", watched=True)
    (queued,) = runs.insert(ledger.engine, [wanted], now=ledger.now, republish_after=timedelta(minutes=1))
    sender = new_sender(ledger, {"nightly": switch.url})
    with suppress(TimeoutError), begin_write(ledger.engine) as connection:
        assert changes.move(connection, queued, State.RUNNING, now=ledger.now) is not None
        raise TimeoutError
    sender.send_due()
    assert switch.heard == []
    with begin_write(ledger.engine) as connection:
        changes.move(connection, queued, State.RUNNING, now=ledger.now)
    sender.send_due()
    assert [(one.path, one.rid) for one in switch.heard] == [("/canary-key/start", wanted.id)]


def watched_run(ledger: Ledger) -> WantedRun:
    return wanted_run(
        job_id=str(uuid7()),
        kind=RunCanary.kind,
        payload={},
        dedup_key=None,
        correlation_id=None,
        enqueued_at=ledger.now,
    )


def test_long_detail_is_cut(quick_ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """The body is at most 10 kB, cut between two characters."""
    quick_ledger.tell("fail", detail="ä" * 20_001)
    new_sender(quick_ledger, {"nightly": f"{switch.url}/?from=crew"}).send_due()
    assert switch.heard[0].body == "ä" * 5_000
    assert switch.heard[0].path == "/canary-key/fail"


def test_outage_keeps_the_order(ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """While the switch fails, later pings of the entry wait; other entries are heard; after it, all come in order."""
    for signal in ("start", "fail", "start", "success"):
        ledger.tell(signal)
    ledger.tell("start", entry="weekly")
    switch.statuses = [503]
    sender = new_sender(ledger, {"nightly": switch.url, "weekly": f"{switch.url}-weekly"})
    sender.send_due()
    assert switch.paths() == ["/canary-key/start", "/canary-key-weekly/start"]
    switch.statuses = [500]
    ledger.advance(seconds=3)
    sender.send_due()
    ledger.advance(seconds=5)
    sender.send_due()
    tried = [path for path in switch.paths() if "weekly" not in path]
    assert tried == ["/canary-key/start"] * 3 + ["/canary-key/fail", "/canary-key/start", "/canary-key"]
    assert [row.tries for row in ledger.rows()] == [3, 1, 1, 1, 1]


def test_endpoint_that_is_away_is_heard_of_after_a_day(
    quick_ledger: Ledger, new_sender: NewSender, log: list[Any]
) -> None:
    """Nobody listens: it is tried ever more rarely, and given up loudly when it is a day old."""
    ledger = quick_ledger
    ledger.tell("fail")
    sender = new_sender(ledger, {"nightly": f"http://127.0.0.1:{free_port()}/canary-key"})
    tries = 0
    while ledger.rows()[0].sent_at is None:
        tries += sender.send_due()
        assert ledger.rows()[0].try_at - ledger.now <= LONGEST_DELAY
        ledger.advance(seconds=301)
    assert 280 < tries < 295
    found = pings.given_up(ledger.engine, since=ledger.now - timedelta(days=1))
    assert found is not None
    assert (found.count, found.entry) == (1, "nightly")
    assert found.error == f"no connection: NewConnectionError; given up after {tries} tries in a day"
    assert [entry["log_level"] for entry in log if entry["event"] == "ping.given_up"] == ["error"]


def test_endpoint_that_comes_back_hears_it(quick_ledger: Ledger, new_sender: NewSender) -> None:
    """A ping that was refused is sent when somebody listens again."""
    port = free_port()
    run_id = quick_ledger.tell("success")
    sender = new_sender(quick_ledger, {"nightly": f"http://127.0.0.1:{port}/canary-key"})
    sender.send_due()
    with listening_switch(port=port) as switch:
        quick_ledger.advance(seconds=3)
        sender.send_due()
        assert [one.rid for one in switch.heard] == [run_id]


def test_month_of_missed_slots_is_not_told_one_by_one(
    ledger: Ledger, switch: Switch, new_sender: NewSender, log: list[Any]
) -> None:
    """Of many pings of an entry the newest are sent, the others are given up loudly; other entries lose nothing."""
    told = [ledger.tell("fail", detail="missed") for _ in range(MOST_WAITING + 5)]
    other = ledger.tell("start", entry="weekly")
    new_sender(ledger, {"nightly": switch.url, "weekly": f"{switch.url}-weekly"}).send_due()
    assert {one.rid for one in switch.heard} == {*told[5:], other}
    assert [entry["count"] for entry in log if entry["event"] == "ping.surplus_given_up"] == [5]


def test_wrong_address_is_given_up_at_once(quick_ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """The switch does not know the address, or an entry has none: no later try can help."""
    quick_ledger.tell("start")
    quick_ledger.tell("start", entry="gone")
    switch.statuses = [404]
    new_sender(quick_ledger, {"nightly": switch.url}).send_due()
    assert [row.error for row in quick_ledger.rows()] == ["status 404", "the entry has no address any more"]
    assert all(row.sent_at for row in quick_ledger.rows())


def test_redirect_is_not_followed(quick_ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """A switch that sends elsewhere is not obeyed: nobody else may learn the key."""
    with listening_switch() as stranger:
        switch.statuses, switch.location = [307], stranger.url
        quick_ledger.tell("start")
        new_sender(quick_ledger, {"nightly": switch.url}).send_due()
        assert (len(switch.heard), stranger.heard) == (1, [])
    assert "redirects are not followed" in quick_ledger.rows()[0].error


def test_several_senders_send_each_ping_once(ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """Of any number of senders one gets a ping, and the order of an entry stays."""
    told = [ledger.tell(signal, entry=f"entry-{number % 3}") for number in range(9) for signal in ("start", "success")]
    targets = {f"entry-{number}": f"{switch.url}/{number}" for number in range(3)}
    senders = [new_sender(ledger, targets) for _ in range(3)]
    for sender in senders:
        sender.start()
    wait_until(lambda: all(row.sent_at for row in ledger.rows()), timeout_s=30, what="all pings to be sent")
    assert sorted(one.rid for one in switch.heard) == sorted(told)
    for number in range(3):
        of_entry = [one.rid for one in switch.heard if one.path.startswith(f"/canary-key/{number}")]
        assert of_entry == [row.run_id for row in ledger.rows() if row.entry == f"entry-{number}"]


def test_ping_of_a_crashed_sender_is_sent_again(ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """A sender that dies after its claim leaves the ping to the next one, which waits for the end of the lease."""
    run_id = ledger.tell("success")
    assert pings.claim_due(ledger.engine, now=ledger.now, lease=timedelta(seconds=30)) is not None
    sender = new_sender(ledger, {"nightly": switch.url})
    assert sender.send_due() == 0
    ledger.advance(seconds=31)
    assert sender.send_due() == 1
    assert [one.rid for one in switch.heard] == [run_id]


def test_sender_that_was_overtaken_changes_nothing(ledger: Ledger) -> None:
    """Who wakes up after its lease cannot undo what the next sender noted."""
    ledger.tell("success")
    slow = pings.claim_due(ledger.engine, now=ledger.now, lease=timedelta(seconds=30))
    ledger.advance(seconds=31)
    quick = pings.claim_due(ledger.engine, now=ledger.now, lease=timedelta(seconds=30))
    assert slow is not None
    assert quick is not None
    pings.note_sent(ledger.engine, quick, now=ledger.now)
    pings.note_given_up(ledger.engine, slow, error="too slow", now=ledger.now)
    assert (ledger.rows()[0].sent_at, ledger.rows()[0].error) == (ledger.now, None)


def test_slow_endpoint_holds_up_nobody(ledger: Ledger, switch: Switch, new_sender: NewSender) -> None:
    """While a request hangs, the ledger is written to at once; the request ends by its timeout."""
    ledger.tell("start")
    switch.lets_answer.clear()
    sender = new_sender(ledger, {"nightly": switch.url}, timeout_s=3.0)
    request = threading.Thread(target=sender.send_due)
    request.start()
    wait_until(lambda: switch.heard, timeout_s=5, what="the request")
    began = time.monotonic()
    ledger.tell("success")
    assert time.monotonic() - began < 1.0
    assert request.is_alive()
    request.join(timeout=10)
    assert (ledger.rows()[0].error, ledger.rows()[0].sent_at) == ("no answer in time", None)


def test_address_is_told_to_nobody_but_the_switch(
    quick_ledger: Ledger,
    switch: Switch,
    new_sender: NewSender,
    log: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither logs, also those of libraries on `debug`, nor rows, nor a repr have the key in it."""
    caplog.set_level(logging.DEBUG)
    dead = f"http://127.0.0.1:{free_port()}/canary-key"
    targets = {"nightly": switch.url, "dead": dead, "wrong": "http://canary-key.invalid:1/canary-key"}
    for entry in targets:
        quick_ledger.tell("start", entry=entry)
    switch.statuses = [500]
    sender = new_sender(quick_ledger, targets)
    sender.send_due()
    seen = [log, caplog.text, [tuple(row) for row in quick_ledger.rows()], vars(sender)]
    assert len(log) == 3
    assert "canary" not in repr(seen)
