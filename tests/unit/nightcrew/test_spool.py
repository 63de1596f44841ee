"""Counts on disk: a process may be killed at any moment and loses none."""

from __future__ import annotations

import os
import signal
import stat
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from nightcrew._spool import SpoolBuffer
from nightcrew._spool_file import SpoolFile
from nightcrew.errors import BufferFullError, SpoolError
from nightcrew.usage import UsageCounter
from nightcrew.wire import MAX_AMOUNT
from tests.unit.nightcrew.log_in_memory import HOUR, LogInMemory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _die_after(work: Callable[[], None]) -> None:
    """Run in a child that is killed at once afterwards."""
    if (child := os.fork()) == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _recovered(log: LogInMemory, spool: Path) -> Counter[str]:
    UsageCounter(log.append, spool=spool).close()
    assert list(spool.iterdir()) == []
    return log.totals()


def test_a_killed_process_loses_nothing(log: LogInMemory, tmp_path: Path) -> None:
    """What was counted before the kill arrives through the next process, once."""

    def work() -> None:
        counter = UsageCounter(log.append, spool=tmp_path, flush_interval_s=60)
        for number in range(5_000):
            counter.increment(f"k{number % 700}", accepted=True)
        counter.increment_many({"k1": 5, "ü": 2}, context="fr")

    _die_after(work)
    assert _recovered(log, tmp_path) == Counter([f"k{n % 700}" for n in range(5_000)]) + Counter({"k1": 5, "ü": 2})


def test_a_batch_that_had_arrived_is_not_doubled(log: LogInMemory, tmp_path: Path) -> None:
    """A batch is frozen on disk before it is sent, and sent again under its old number."""
    frozen = []

    def work() -> None:
        buffer = SpoolBuffer(tmp_path, hour=HOUR, max_pending=100, adopt=True)
        buffer.add_many("", "n", {"a": 1, "b": 2}, None)
        buffer.seal(everything=True)
        assert buffer.take() is not None
        buffer.add("", "n", "a", 10, None)

    _die_after(work)
    again = SpoolBuffer(tmp_path, hour=HOUR, max_pending=100, adopt=True)
    batch = again.take()
    assert batch is not None
    frozen.append(batch)
    assert (batch.seq, batch.groups) == (1, (((HOUR, "", "n"), {"a": 1, "b": 2}),))
    log.append(batch)  # it had arrived; only the answer was lost with the process
    again.close()
    assert _recovered(log, tmp_path) == {"a": 11, "b": 2}
    assert [(batch.producer, batch.seq) for batch in log.batches] == [(batch.producer, 1), (batch.producer, 2)]


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_torn_last_line_is_as_if_never_written(log: LogInMemory, tmp_path: Path, cut: int) -> None:
    """A kill in the middle of freezing a batch leaves its counts pending."""

    def work() -> None:
        buffer = SpoolBuffer(tmp_path, hour=HOUR, max_pending=100, adopt=True)
        buffer.add_many("", "n", {"a": 1, "b": 2}, None)
        buffer.seal(everything=True)
        buffer.take()

    _die_after(work)
    (journal,) = tmp_path.glob("*.journal")
    os.truncate(journal, journal.stat().st_size - cut)
    assert _recovered(log, tmp_path) == {"a": 1, "b": 2}
    assert [batch.seq for batch in log.batches] == [1]


def test_a_damaged_journal_is_an_error(tmp_path: Path) -> None:
    """Damage before the last line is never read over in silence."""
    _die_after(lambda: UsageCounter(LogInMemory().append, spool=tmp_path, flush_interval_s=60).increment("a"))
    (journal,) = tmp_path.glob("*.journal")
    journal.write_bytes(b"x" + journal.read_bytes()[1:])
    for _ in range(2):
        with pytest.raises(SpoolError, match="move the three files"):
            UsageCounter(LogInMemory().append, spool=tmp_path)


def test_processes_share_a_directory(log: LogInMemory, tmp_path: Path) -> None:
    """A living process keeps its files; a forked child gets its own; what it leaves is taken over."""
    counter = UsageCounter(log.append, spool=tmp_path, flush_interval_s=60)
    counter.increment("parent")
    _die_after(lambda: counter.increment("child", amount=2))
    other = UsageCounter(log.append, spool=tmp_path)
    other.close()
    assert log.totals() == {"child": 2}
    counter.close()
    assert log.totals() == {"child": 2, "parent": 1}
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_private(log: LogInMemory, tmp_path: Path) -> None:
    """Nobody else can read what an app counts."""
    counter = UsageCounter(log.append, spool=tmp_path / "new", flush_interval_s=60)
    counter.increment("k")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    counter.close()


def test_large_files_are_sent_off(log: LogInMemory, tmp_path: Path) -> None:
    """A long-lived process goes from file to file, and the old ones go away."""
    buffer = SpoolBuffer(tmp_path, hour=HOUR, max_pending=1_000, adopt=True, full_bytes=2_000)
    for round_ in range(5):
        buffer.add_many("", "n", {f"k{round_}-{n}": 1 for n in range(100)}, None)
        buffer.seal(everything=True)
        while batch := buffer.take():
            log.append(batch)
            buffer.settle()
        assert len(list(tmp_path.glob("*.journal"))) == 1
    buffer.close()
    assert len({batch.producer for batch in log.batches}) == 5
    assert log.totals() == {f"k{r}-{n}": 1 for r in range(5) for n in range(100)}
    assert list(tmp_path.iterdir()) == []


def test_more_keys_than_cells_begin_another_file(log: LogInMemory, tmp_path: Path) -> None:
    """Entries of the past do not use up the room."""
    counter = UsageCounter(log.append, spool=tmp_path, flush_interval_s=60, max_pending=10)
    for number in range(100):
        counter.increment(f"k{number}")
        counter.flush()
    counter.close()
    assert log.totals() == {f"k{n}": 1 for n in range(100)}


def test_the_bound_holds_on_disk(log: LogInMemory, tmp_path: Path) -> None:
    """Over the bound nothing is counted."""
    log.away = True
    counter = UsageCounter(log.append, spool=tmp_path, flush_interval_s=60, max_pending=5)
    counter.increment_many("abcde"[i] for i in range(5))
    with pytest.raises(BufferFullError):
        counter.increment("f")
    log.away = False
    counter.close()
    assert log.totals() == dict.fromkeys("abcde", 1)


def test_amounts_beyond_one_entry_are_split_on_disk(log: LogInMemory, tmp_path: Path) -> None:
    """As in memory: what the wire cannot say in one entry leaves in several flushes."""
    counter = UsageCounter(log.append, spool=tmp_path)
    for _ in range(3):
        counter.increment("k", amount=MAX_AMOUNT)
    counter.close()
    assert log.totals() == {"k": 3 * MAX_AMOUNT}


def test_an_unusable_directory_is_told_at_once(tmp_path: Path) -> None:
    """A file where the directory should be is an error when the counter is made."""
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="directory"):
        UsageCounter(LogInMemory().append, spool=tmp_path / "file")


def test_files_without_a_journal_are_cleared_away(log: LogInMemory, tmp_path: Path) -> None:
    """A process that died while it made its files leaves nothing for ever."""
    spool = SpoolFile.create(tmp_path, cells=10)
    spool.close()
    (tmp_path / f"{spool.producer}.journal").unlink()
    assert _recovered(log, tmp_path) == Counter()
