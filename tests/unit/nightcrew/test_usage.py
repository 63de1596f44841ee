"""Counting in memory: exact sums whatever runs at the same time."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew._buffer import IDLE_COLLECTIONS, Buffer, slots_are_safe
from nightcrew.errors import BufferFullError, ClosedError, FlushError, InvalidUsageError
from nightcrew.usage import UsageCounter
from nightcrew.wire import MAX_AMOUNT
from tests.support import wait_until
from tests.unit.nightcrew.log_in_memory import HOUR, Clock, LogInMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightcrew._batch import Batch


@pytest.fixture
def busy_interpreter() -> Iterator[None]:
    """Switch threads as often as possible, so that a gap between two bytecodes is found."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _in_threads(work: Any, *, threads: int) -> None:
    started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


@pytest.mark.usefixtures("busy_interpreter")
def test_threads_lose_no_count(counter: UsageCounter, log: LogInMemory, seed: int) -> None:
    """Six threads, singles and many, against a flush each 20 ms: every key has its exact sum."""
    choices = [random.Random(seed + n).choices([f"k{i}" for i in range(40)], k=20_000) for n in range(6)]

    def work(number: int) -> None:
        for start in range(0, 20_000, 100):
            chunk = choices[number][start : start + 100]
            if number % 3 == 0:
                counter.increment_many(chunk)
            else:
                for key in chunk:
                    counter.increment(key)

    _in_threads(work, threads=6)
    counter.flush()
    assert log.totals() == sum((Counter(keys) for keys in choices), Counter())
    assert counter.pending == 0


@pytest.mark.usefixtures("busy_interpreter")
def test_retired_slots_lose_no_count(clock: Clock) -> None:
    """Slots that are retired again and again while threads count on them keep every count."""
    buffer = Buffer(hour=HOUR, max_pending=1_000)
    log = LogInMemory()
    counter = UsageCounter(log.append, flush_interval_s=60, clock=clock)
    counter._buffer, counter._slots = buffer, buffer.slots
    done = threading.Event()

    def retire() -> None:
        while not done.is_set():
            with buffer._lock:
                buffer._retire(buffer._hot)
            buffer.collect()

    retiring = threading.Thread(target=retire)
    retiring.start()
    _in_threads(lambda _: counter_loop(counter, 20_000), threads=3)
    done.set()
    retiring.join()
    buffer.seal(everything=True)
    while batch := buffer.take():
        log.append(batch)
        buffer.settle()
    assert log.totals() == {"a": 60_000}
    assert not buffer._retired


def test_hot_entries_get_a_slot_and_lose_it_when_idle() -> None:
    """A second use makes a slot; some flushes without one take it away, and no count is lost on the way."""
    buffer = Buffer(hour=HOUR, max_pending=1_000)
    for _ in range(2):
        buffer.add("fr", "a", "k", 1, None)
    slot = buffer.slots[True]["fr"]["k"]
    next(slot)
    assert buffer.pending == 2  # three uses: the entry in the dict, and its slot
    del slot
    for _ in range(IDLE_COLLECTIONS + 1):
        buffer.collect()
    assert buffer.slots[True] == {}
    assert buffer._open == {(HOUR, "fr", "a"): {"k": 3}}


def test_a_held_slot_is_collected_until_it_is_let_go() -> None:
    """Whoever found a slot just before it was retired may still count on it."""
    buffer = Buffer(hour=HOUR, max_pending=1_000)
    for _ in range(2):
        buffer.add("", "n", "k", 1, None)
    held = buffer.slots[None][""]["k"]
    buffer.refuse()
    assert buffer.is_settling()
    next(held)
    del held
    assert not buffer.is_settling()
    assert buffer._open == {(HOUR, "", "n"): {"k": 3}}


def test_outcomes_contexts_and_hours_are_kept_apart(counter: UsageCounter, log: LogInMemory, clock: Clock) -> None:
    """Each combination is an entry of its own, on the hot path too."""
    for _ in range(5):
        counter.increment("k")
        counter.increment("k", context="fr", accepted=True)
        counter.increment("k", context="fr", accepted=False, amount=3)
    counter.increment("k", at=datetime.fromtimestamp(clock.now, UTC) - timedelta(hours=2))
    counter.increment_many({"k": 7, "l": 1}, accepted=True)
    counter.flush()
    assert log.counts() == {
        (HOUR, "", "n", "k"): 5,
        (HOUR, "fr", "a", "k"): 5,
        (HOUR, "fr", "r", "k"): 15,
        (HOUR - 2, "", "n", "k"): 1,
        (HOUR, "", "a", "k"): 7,
        (HOUR, "", "a", "l"): 1,
    }


def test_the_hour_rolls_over(counter: UsageCounter, log: LogInMemory, clock: Clock) -> None:
    """What was counted before the turn of the hour, in slots too, belongs to the hour before."""
    for _ in range(3):
        counter.increment("k")
    counter.flush()
    counter.increment("k")
    clock.now += 3600
    wait_until(lambda: log.counts()[HOUR, "", "n", "k"] == 4, timeout_s=5, what="the old hour")
    counter.increment("k")
    counter.flush()
    assert log.counts() == {(HOUR, "", "n", "k"): 4, (HOUR + 1, "", "n", "k"): 1}


def test_a_lost_reply_does_not_double(counter: UsageCounter, log: LogInMemory) -> None:
    """The same batch is sent again under the same number, and the log knows it."""
    log.lose_reply = True
    counter.increment("k", amount=5)
    counter.flush()
    assert log.totals() == {"k": 5}


def test_counts_coalesce_while_the_log_is_away(counter: UsageCounter, log: LogInMemory) -> None:
    """An outage costs no memory beyond the distinct entries, and nothing raises."""
    log.away = True
    for _ in range(200):
        counter.increment_many([f"k{i}" for i in range(50)])
    with pytest.raises(FlushError, match="kept"):
        counter.flush(timeout_s=0.1)
    assert 50 <= counter.pending <= 100
    log.away = False
    counter.flush()
    assert log.totals() == {f"k{i}": 200 for i in range(50)}


def test_the_bound_is_exact_and_counts_nothing(log: LogInMemory, clock: Clock) -> None:
    """The entry over the bound raises and is not counted, and what was taken before arrives."""
    log.away = True
    counter = UsageCounter(log.append, flush_interval_s=60, max_pending=100, clock=clock)
    counter.increment_many([f"k{i}" for i in range(99)])
    counter.increment("k99")
    with pytest.raises(BufferFullError, match="max_pending"):
        counter.increment("one too many")
    with pytest.raises(BufferFullError):
        counter.increment_many(["one too many", "two too many"])
    log.away = False
    counter.close()
    assert log.totals() == {f"k{i}": 1 for i in range(100)}


def test_at_the_bound_waiting_entries_count_on() -> None:
    """What needs no more memory is taken."""
    buffer = Buffer(hour=HOUR, max_pending=2)
    buffer.add_many("", "n", {"a": 1, "b": 1}, None)
    buffer.add("", "n", "a", 1, None)
    buffer.add_many("", "n", {"a": 1, "b": 1}, None)
    with pytest.raises(BufferFullError):
        buffer.add("", "n", "c", 1, None)
    assert buffer._open == {(HOUR, "", "n"): {"a": 3, "b": 2}}


def test_amounts_beyond_one_entry_are_split(counter: UsageCounter, log: LogInMemory) -> None:
    """Amounts that add up to more than the wire can say leave in several flushes."""
    for _ in range(3):
        counter.increment("k", amount=MAX_AMOUNT)
    counter.flush()
    assert log.totals() == {"k": 3 * MAX_AMOUNT}
    assert all(amount <= MAX_AMOUNT for batch in log.batches for _, part in batch.groups for amount in part.values())


def test_increment_many_counts_all_or_nothing(counter: UsageCounter, log: LogInMemory) -> None:
    """One bad key among many refuses the whole call."""
    for bad in ([*"abc", ""], {"a": 1, "b": 0}, ["a", 5], ["a", "x" * 513], 7, "abc", {"a": True}, [["a"]]):
        with pytest.raises(InvalidUsageError):
            counter.increment_many(bad)  # type: ignore[arg-type]
    counter.increment_many(key for key in ("a", "b", "a"))
    counter.flush()
    assert log.totals() == {"a": 2, "b": 1}


def test_a_signal_handler_may_count(counter: UsageCounter, log: LogInMemory) -> None:
    """A handler that interrupts a count, lock held or not, neither deadlocks nor loses one."""
    handled = 0

    def count(*_: object) -> None:
        nonlocal handled
        handled += 1
        counter.increment(f"handler{handled % 7}")
        counter.increment_many(["handler-many"])

    before = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.000_5, 0.000_5)
    try:
        for number in range(30_000):
            counter.increment(f"k{number % 3_000}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    counter.flush()
    totals = log.totals()
    assert handled
    assert sum(amount for key, amount in totals.items() if key.startswith("k")) == 30_000
    assert totals["handler-many"] == handled
    assert sum(totals[f"handler{n}"] for n in range(7)) == handled


def test_after_close_nothing_is_taken(log: LogInMemory, clock: Clock) -> None:
    """Hot and cold entries alike raise, and what came before has arrived."""
    counter = UsageCounter(log.append, clock=clock)
    for _ in range(3):
        counter.increment("k")
    counter.close()
    with pytest.raises(ClosedError):
        counter.increment("k")
    with pytest.raises(ClosedError):
        counter.increment_many(["k"])
    assert log.totals() == {"k": 3}


def test_a_forked_child_begins_empty(log: LogInMemory, clock: Clock) -> None:
    """What the parent counted is sent by the parent alone; the child counts under an id of its own."""
    counter = UsageCounter(log.append, flush_interval_s=60, clock=clock)
    counter.increment_many(["parent"])
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        counter.increment("child")
        counter.flush()
        totals, producer = log.totals(), log.batches[0].producer
        os.write(write, f"{dict(totals)} {producer != counter_producer(counter)} {producer}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(read, 1_000).decode()
    counter.close()
    assert told.startswith("{'child': 1} False")
    assert log.totals() == {"parent": 1}
    assert log.batches[0].producer not in told


def counter_loop(counter: UsageCounter, times: int) -> None:
    for _ in range(times):
        counter.increment("a")


def counter_producer(counter: UsageCounter) -> str:
    buffer = counter._buffer
    assert isinstance(buffer, Buffer)
    return buffer.producer


def test_forks_while_threads_count_lose_nothing(log: LogInMemory, clock: Clock) -> None:
    """Forking in the middle of counting harms neither the parent's counts nor the child's."""
    counter = UsageCounter(log.append, flush_interval_s=0.005, clock=clock)
    done = threading.Event()
    counted = 0

    def work() -> None:
        nonlocal counted
        while not done.is_set():
            counter.increment(f"k{counted % 100}")
            counted += 1

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(10):
        if (child := os.fork()) == 0:
            log.batches.clear()
            counter.increment_many(["c"] * 10)
            counter.flush(5)
            os._exit(0 if log.totals() == {"c": 10} else 1)
        assert os.waitpid(child, 0)[1] == 0
    done.set()
    thread.join()
    counter.close()
    assert sum(log.totals().values()) == counted


def test_without_the_lock_of_the_interpreter_no_slots_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build without the GIL promises no atomic `next()`: everything takes the locked path."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert not slots_are_safe()
    assert Buffer(hour=HOUR, max_pending=1_000)._max_slots == 0


def test_an_increment_does_not_wait_for_a_hung_log(clock: Clock) -> None:
    """While a flush hangs, counting goes on at its usual speed."""
    hangs, release = threading.Event(), threading.Event()

    def hang(_: Batch) -> None:
        hangs.set()
        release.wait(20)

    counter = UsageCounter(hang, flush_interval_s=0.01, clock=clock)
    counter.increment("k")
    assert hangs.wait(10)
    started = time.monotonic()
    for number in range(10_000):
        counter.increment(f"k{number % 500}")
    assert time.monotonic() - started < 5
    release.set()
    counter.close()


def test_children_of_multiprocessing_flush_at_their_exit() -> None:
    """`os._exit` skips atexit there; the finalizers of multiprocessing are used instead."""
    context = multiprocessing.get_context("fork")
    arrived = context.Queue()
    child = context.Process(target=_count_and_leave, args=(arrived,))
    child.start()
    assert arrived.get(timeout=20) == {"child": 3}
    child.join(20)
    assert child.exitcode == 0


def _count_and_leave(arrived: Any) -> None:
    from nightcrew import _processes  # noqa: PLC0415

    def append(batch: Batch) -> None:
        arrived.put(dict(batch.groups[0][1]))

    counter = UsageCounter(append, flush_interval_s=60, started=lambda: _processes.call_at_child_exit(counter.close))
    counter.increment("child", amount=3)
