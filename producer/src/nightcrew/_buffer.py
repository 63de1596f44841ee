"""Counts waiting in memory.

Three places, from hot to cold:

*Slots.* An entry counted more than once gets an `itertools.count`: `next()` on it is one C call that
no other thread can interrupt, so the hot path needs no lock. The collector reads a slot with the very
same `next()` and takes its own calls off again; nothing is ever swapped, so nothing can fall between.
A slot that stayed idle is retired: taken out of the dict, and still collected until no thread can be
holding it, which its reference count tells.

*Open counts.* Plain dicts by hour, context and outcome, which is the layout of the wire; under a lock.

*Sealed counts.* What the present flush works off. When the log is away they go back and coalesce.
"""

from __future__ import annotations

import itertools
import sys
import threading
import uuid
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nightcrew._batch import FLUSH_ENTRIES, Batch
from nightcrew.errors import BufferFullError, ClosedError
from nightcrew.wire import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nightcrew._batch import Group, Outcome

Slots = dict[bool | None, dict[str, dict[str, "itertools.count[int]"]]]
"""By outcome, context, key: three lookups of a string each beat one of a tuple, which must be built and hashed."""

MAX_SLOTS: Final = 50_000
"""Collecting one takes some 0.2 us of each flush interval."""

EARLY_SHARE: Final = 16
"""A flush begins early when this part of the bound waits; still earlier, less would have coalesced."""

IDLE_COLLECTIONS: Final = 5
"""A slot is retired when it stayed idle this often in a row."""

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_ACCEPTED: Final[dict[Outcome, bool | None]] = {"a": True, "r": False, "n": None}


class Buffer:
    """The counts of one process that no flush has taken yet. Safe for threads."""

    def __init__(self, *, hour: int, max_pending: int) -> None:
        self.slots: Slots = {None: {}, True: {}, False: {}}
        self.producer = uuid.uuid4().hex
        self._hour = hour
        self._max_pending = max_pending
        self._early = max(max_pending // EARLY_SHARE, 1)
        self._max_slots = min(MAX_SLOTS, max_pending // 4) if slots_are_safe() else 0
        self._hot: list[_Slot] = []
        self._retired: list[_Slot] = []
        self._open: dict[Group, dict[str, int]] = {}
        self._open_size = 0
        self._sealed: list[tuple[Group, dict[str, int]]] = []
        self._sealed_size = 0
        self._taken: Batch | None = None
        self._taken_size = 0
        self._seq = 0
        self._closed = False
        # A signal handler or a finalizer may count in the middle of a count of the same thread: the lock lets it in,
        # and `_busy` tells it to leave its counts aside instead of changing a dict that is being changed.
        self._lock = threading.RLock()
        self._busy = False
        self._interposed: list[tuple[Group, Mapping[str, int]]] = []

    @property
    def pending(self) -> int:
        """Distinct entries that the log does not have yet."""
        with self._lock:
            counted = sum(slot.peek() > slot.seen for slot in (*self._hot, *self._retired))
            return self._load + counted + len(self._interposed)

    @property
    def waiting(self) -> int:
        """Distinct entries outside the slots that no flush has taken."""
        return self._open_size + self._sealed_size

    def known(self, context: str, outcome: Outcome, hour: int | None) -> Mapping[str, int]:
        """Give what is open for this group: its keys were checked before."""
        return self._open.get((self._hour if hour is None else hour, context, outcome), _NOTHING)

    def add(self, context: str, outcome: Outcome, key: str, amount: int, hour: int | None) -> bool:
        """Count one checked entry, in the buffer's hour unless the event's own is given; tell whether to flush soon.

        Raises:
            BufferFullError: it is a new entry and there are `max_pending` already.
            ClosedError: the buffer takes nothing more.
        """
        with self._lock:
            group = (self._hour if hour is None else hour, context, outcome)
            if self._busy:
                self._interposed.append((group, {key: amount}))
                return False
            self._busy = True
            try:
                if self._add(group, key, amount):
                    return self._open_size % self._early == 0
                if hour is None and amount == 1 and len(self._hot) < self._max_slots:
                    self._promote(group, key)
                return False
            finally:
                self._busy = False

    def add_many(self, context: str, outcome: Outcome, counts: dict[str, int], hour: int | None) -> bool:
        """Count checked entries: all of them or, when it raises, none; tell whether to flush soon.

        The dict belongs to the buffer from now on.

        Raises:
            BufferFullError: they do not fit into `max_pending`.
            ClosedError: the buffer takes nothing more.
        """
        with self._lock:
            group = (self._hour if hour is None else hour, context, outcome)
            if self._busy:
                self._interposed.append((group, counts))
                return False
            self._busy = True
            try:
                self._check_open()
                self._check_room(group, counts)
                before = self._open_size
                self._merge(group, counts)
                return self._open_size // self._early > before // self._early
            finally:
                self._busy = False

    def roll(self, hour: int) -> None:
        """Begin another hour: what the slots have counted belongs to the one before."""
        if hour != self._hour:
            with self._alone():
                self.collect()
                self._hour = hour

    def collect(self) -> None:
        """Move what the slots have counted to the open counts. For one thread at a time."""
        with self._alone():
            self._collect(self._hot)
            idle = [slot for slot in self._hot if slot.idle >= IDLE_COLLECTIONS]
            if idle or self._load > self._max_pending:
                # Over the bound all of them go, and the cold path, which knows the bound, takes over.
                self._retire(self._hot if self._load > self._max_pending else idle)
            self._finish_retired()
            while self._interposed:
                self._merge(*self._interposed.pop())

    def seal(self, *, everything: bool) -> None:
        """Set the open counts apart for this flush; with `everything`, what the slots have counted too."""
        with self._alone():
            if everything:
                self.collect()
            self._sealed.extend(self._open.items())
            self._sealed_size += self._open_size
            self._open, self._open_size = {}, 0

    def take(self) -> Batch | None:
        """Freeze up to `FLUSH_ENTRIES` sealed entries; the same ones again until they are settled."""
        with self._alone():
            if self._taken is None and self._sealed:
                groups: list[tuple[Group, Mapping[str, int]]] = []
                room = FLUSH_ENTRIES
                while room and self._sealed:
                    group, counts = self._take_group(room)
                    groups.append((group, self._within_limit(group, counts)))
                    room -= len(counts)
                self._seq += 1
                self._taken = Batch(producer=self.producer, seq=self._seq, groups=tuple(groups))
                self._taken_size = self._taken.size
            return self._taken

    def settle(self) -> None:
        """Forget the frozen batch."""
        with self._alone():
            self._taken, self._taken_size = None, 0

    def unseal(self) -> None:
        """Let the sealed counts coalesce with the open ones again."""
        with self._alone():
            while self._sealed:
                self._merge(*self._sealed.pop())
            self._sealed_size = 0

    def refuse(self) -> None:
        """Take nothing more; what is there can still be flushed."""
        with self._alone():
            self._closed = True
            self._retire(self._hot)

    def is_settling(self) -> bool:
        """Tell whether a thread may still be inside a slot that was retired."""
        with self._alone():
            self._finish_retired()
            return bool(self._retired)

    def close(self) -> None:
        """Memory needs no giving back."""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock, and have whoever counts from inside (a finalizer) leave it aside."""
        with self._lock:
            busy, self._busy = self._busy, True
            try:
                yield
            finally:
                self._busy = busy

    @property
    def _load(self) -> int:
        return self._open_size + self._sealed_size + self._taken_size

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this Nightcrew was closed: nothing more can be counted with it")

    def _add(self, group: Group, key: str, amount: int) -> bool:
        """Add to the open counts; tell whether it is a new entry."""
        counts = self._open.get(group)
        if self._closed or (self._open_size + self._sealed_size + self._taken_size >= self._max_pending):
            self._check_open()
            self._check_room(group, {key: amount})
        if counts is None:
            counts = self._open[group] = {}
        elif key in counts:
            counts[key] += amount
            return False
        counts[key] = amount
        self._open_size += 1
        return True

    def _check_room(self, group: Group, counts: dict[str, int]) -> None:
        if self._load + len(counts) > self._max_pending:
            new = len(counts.keys() - self._open.get(group, {}).keys())
            if new and self._load + new > self._max_pending:
                raise full(self._max_pending)

    def _merge(self, group: Group, counts: Mapping[str, int]) -> None:
        """Add to the open counts, whatever the bound says."""
        into = self._open.setdefault(group, {})
        before = len(into)
        if not into or into.keys().isdisjoint(counts):
            into.update(counts)
        else:
            known = into.get
            for key, amount in counts.items():
                into[key] = known(key, 0) + amount
        self._open_size += len(into) - before

    def _promote(self, group: Group, key: str) -> None:
        _, context, outcome = group
        by_key = self.slots[_ACCEPTED[outcome]].setdefault(context, {})
        if key not in by_key:
            slot = _Slot(context, outcome, key)
            self._hot.append(slot)
            by_key[key] = slot.counter

    def _collect(self, slots: list[_Slot]) -> None:
        for slot in slots:
            if amount := slot.collect():
                counts = self._open.setdefault((self._hour, slot.context, slot.outcome), {})
                if slot.key in counts:
                    counts[slot.key] += amount
                else:
                    counts[slot.key] = amount
                    self._open_size += 1

    def _retire(self, slots: list[_Slot]) -> None:
        gone = set(map(id, slots))
        for slot in slots:
            by_context = self.slots[_ACCEPTED[slot.outcome]]
            del by_context[slot.context][slot.key]
            if not by_context[slot.context]:
                del by_context[slot.context]
        self._retired.extend(slots)
        self._hot = [slot for slot in self._hot if id(slot) not in gone]

    def _finish_retired(self) -> None:
        """Collect retired slots; those that no thread held before that are final."""
        held = [slot for slot in self._retired if slot.is_held()]
        self._collect(self._retired)
        self._retired = held

    def _take_group(self, room: int) -> tuple[Group, dict[str, int]]:
        group, counts = self._sealed[-1]
        if len(counts) <= room:
            self._sealed.pop()
        else:
            counts = dict(itertools.starmap(counts.popitem, itertools.repeat((), room)))
        self._sealed_size -= len(counts)
        return group, counts

    def _within_limit(self, group: Group, counts: dict[str, int]) -> dict[str, int]:
        """Seal what one entry of the wire cannot say once more."""
        if max(counts.values()) <= MAX_AMOUNT:
            return counts
        excess = {key: amount - MAX_AMOUNT for key, amount in counts.items() if amount > MAX_AMOUNT}
        self._sealed.insert(0, (group, excess))
        self._sealed_size += len(excess)
        return {key: min(amount, MAX_AMOUNT) for key, amount in counts.items()}


class _Slot:
    """A counter that is counted on by `next()` alone, and who it counts for."""

    __slots__ = ("context", "counter", "idle", "key", "outcome", "seen")

    def __init__(self, context: str, outcome: Outcome, key: str) -> None:
        self.counter = itertools.count()
        self.context, self.outcome, self.key = context, outcome, key
        self.seen = 0
        self.idle = 0

    def collect(self) -> int:
        """Give what was counted since the last time."""
        now = next(self.counter)
        amount = now - self.seen
        self.seen = now + 1
        self.idle = 0 if amount else self.idle + 1
        return amount

    def peek(self) -> int:
        """Read without counting; `repr` is the only way, and too slow for each collection."""
        return int(repr(self.counter).removeprefix("count(").removesuffix(")"))

    def is_held(self) -> bool:
        """Tell whether anything but this object refers to the counter, such as a thread about to count."""
        return sys.getrefcount(self.counter) > _UNHELD


def slots_are_safe() -> bool:
    """Tell whether `next()` on a counter is atomic here: with the GIL it is, without it 3.13 does not promise it."""
    has_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return has_gil and sys.implementation.name == "cpython"


def full(max_pending: int) -> BufferFullError:
    """Say that the bound is reached, and what to do."""
    msg = (
        f"{max_pending} distinct counts are waiting and Redis takes none of them; this one was not counted. "
        "Is Redis reachable? If that many distinct keys are meant, raise max_pending"
    )
    return BufferFullError(msg)


def _count_unheld() -> int:
    slot = _Slot("", "n", "")
    return sys.getrefcount(slot.counter)


_UNHELD: Final = _count_unheld()
