"""Values on both databases: what is written is read, versions have no gap, nobody overwrites what he has not seen."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tasks.errors import TransientError
from tasks.transactions import begin_write
from tasks.values.changes import Change, Refusal
from tasks.values.listing import SORT_KEYS, InvalidListingError, Listing
from tasks.values.store import SqlValueReader, SqlValueWriter
from tasks.values.tables import StoredValue, ValueChange, ValueTag
from tasks.values.values import DefaultValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from tasks.values.changes import Action
    from tasks.values.listing import Page

START = datetime(2026, 3, 1, tzinfo=UTC)
VALUES: list[Any] = [None, True, False, 0, -(2**63) + 1, 1.5, 1e300, "", "é\U0001f600", [], {}, [1, [2, {"a": None}]]]


class Clock:
    """Goes on by a second each time somebody looks."""

    def __init__(self) -> None:
        self._ticks = count()

    def __call__(self) -> datetime:
        return START + timedelta(seconds=next(self._ticks))


@pytest.fixture
def writer(engine: Engine) -> SqlValueWriter:
    return SqlValueWriter(engine, Clock())


@pytest.fixture
def reader(engine: Engine) -> SqlValueReader:
    return SqlValueReader(engine)


def one(writer: SqlValueWriter, action: Action, key: str, **more: Any) -> DefaultValue | Refusal:
    """Make one change."""
    [outcome] = writer.apply([Change(action=action, key=key, **more)], actor="ann")
    return outcome


def made(outcome: DefaultValue | Refusal) -> DefaultValue:
    assert isinstance(outcome, DefaultValue), outcome
    return outcome


def refused(outcome: DefaultValue | Refusal) -> str:
    assert isinstance(outcome, Refusal), outcome
    return outcome.fault


def test_every_json_value_comes_back_as_it_was(writer: SqlValueWriter, reader: SqlValueReader) -> None:
    """Null is a value, true is not 1, and a whole number stays one."""
    changes = [Change(action="create", key=f"k{n}", context="fr", value=value) for n, value in enumerate(VALUES)]
    writer.apply(changes, actor="ann")
    found = reader.get_many([change.address for change in changes])
    back = [found[change.address].value for change in changes]
    assert [(type(value), value) for value in back] == [(type(value), value) for value in VALUES]


def test_a_value_lives_through_its_versions(writer: SqlValueWriter, reader: SqlValueReader) -> None:
    """Making, changing, deleting and making again count up without a gap, and the trail has each of them."""
    assert made(one(writer, "create", "k", value=1, tags=("b", "a"))).version == 1
    assert refused(one(writer, "create", "k", value=2)) == "exists"
    assert made(one(writer, "update", "k", value=2, expected_version=1)).version == 2
    assert refused(one(writer, "update", "k", value=3, expected_version=1)) == "conflict"
    assert made(one(writer, "update", "k", value=2)).version == 2, "nothing changed, and nothing counts"
    assert made(one(writer, "delete", "k", expected_version=2)).version == 3
    assert refused(one(writer, "update", "k", value=4)) == "not_found"
    assert refused(one(writer, "delete", "k")) == "not_found"
    assert reader.get_many([("k", "")]) == {}
    again = made(one(writer, "set", "k", value=None))
    assert (again.version, again.tags, again.value) == (4, (), None)
    trail = reader.trail(("k", ""))
    assert [(line.version, line.action, line.value, line.has_value) for line in trail] == [
        (4, "create", None, True),
        (3, "delete", None, False),
        (2, "update", 2, True),
        (1, "create", 1, True),
    ]
    assert {line.actor for line in trail} == {"ann"}
    assert all(newer.at > older.at for newer, older in pairwise(trail))


def test_a_purge_takes_the_content_and_leaves_the_numbers(writer: SqlValueWriter, reader: SqlValueReader) -> None:
    """What was deleted long enough ago is gone with all its content; a new one goes on counting."""
    for key in ("old", "kept"):
        one(writer, "create", key, value="secret", tags=("t",))
    one(writer, "delete", "old")
    assert writer.purge(before=START, limit=10, actor="bob") == []
    assert writer.purge(before=START + timedelta(days=1), limit=10, actor="bob") == [("old", "")]
    assert reader.get_many([("old", "")], with_deleted=True) == {}
    trail = reader.trail(("old", ""))
    assert [(line.version, line.action, line.has_value, line.tags) for line in trail] == [
        (3, "purge", False, ()),
        (2, "delete", False, ()),
        (1, "create", False, ()),
    ]
    assert made(one(writer, "create", "old", value=1)).version == 4
    assert reader.get_many([("kept", "")])["kept", ""].value == "secret"


def test_a_batch_tells_of_each_row(writer: SqlValueWriter, reader: SqlValueReader) -> None:
    """Good rows are made although others are refused; several changes of one value follow one another."""
    one(writer, "create", "there", value=1)
    changes = [
        Change(action="create", key="new", value=1),
        Change(action="create", key="there", value=2),
        Change(action="update", key="new", value=2, expected_version=1),
        Change(action="delete", key="gone"),
        Change(action="delete", key="there"),
    ]
    outcomes = writer.apply(changes, actor="ann")
    assert [refused(o) if isinstance(o, Refusal) else o.version for o in outcomes] == [1, "exists", 2, "not_found", 2]
    assert {value.key for value in reader.get_many([change.address for change in changes]).values()} == {"new"}
    assert [line.version for line in reader.trail(("new", ""))] == [2, 1]


def test_a_whole_batch_is_made_or_none_of_it(writer: SqlValueWriter, reader: SqlValueReader) -> None:
    """One row that is refused takes the others back, and says so of each."""
    changes = [Change(action="create", key="new", value=1), Change(action="delete", key="gone")]
    assert [refused(o) for o in writer.apply(changes, actor="ann", whole=True)] == ["taken_back", "not_found"]
    assert reader.get_many([("new", "")]) == {}
    assert reader.trail(("new", "")) == []


def test_writers_at_once_lose_no_change(engine: Engine, seed: int) -> None:
    """Each of them adds one to a number that he has just read: optimistic locking lets none of it get lost."""
    SqlValueWriter(engine, Clock()).apply([Change(action="create", key="n", value=0)], actor="ann")

    def add(times: int, number: int) -> None:
        writer, reader = SqlValueWriter(engine, Clock()), SqlValueReader(engine)
        rng = random.Random(seed + number)
        for _ in range(times):
            while True:
                seen = reader.get_many([("n", "")])["n", ""]
                actor = f"{number}-{rng.random()}"
                change = Change(action="update", key="n", value=seen.value + 1, expected_version=seen.version)
                try:
                    [outcome] = writer.apply([change], actor=actor)
                except TransientError:
                    continue
                if isinstance(outcome, DefaultValue):
                    break

    threads = [threading.Thread(target=add, args=(25, number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value = SqlValueReader(engine).get_many([("n", "")])["n", ""]
    assert (value.value, value.version) == (100, 101)
    assert [line.version for line in SqlValueReader(engine).trail(("n", ""))] == list(range(101, 0, -1))


def test_one_of_many_makers_makes_it(engine: Engine) -> None:
    """The others are told that it is there, or to try again; nobody overwrites."""
    told: list[str] = []

    def make(number: int) -> None:
        try:
            [outcome] = SqlValueWriter(engine, Clock()).apply(
                [Change(action="create", key="k", value=number)], actor=str(number)
            )
        except TransientError:
            told.append("again")
        except Exception as error:  # noqa: BLE001  told by the test
            told.append(repr(error)[:300])
        else:
            told.append(refused(outcome) if isinstance(outcome, Refusal) else f"made {number}")

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [word for word in told if word.startswith("made")]
    assert set(told) - {winner} <= {"exists", "again"}
    value = SqlValueReader(engine).get_many([("k", "")])["k", ""]
    assert (f"made {value.value}", value.version) == (winner, 1)


def _fill(writer: SqlValueWriter, seed: int) -> None:
    """Make values whose instants and versions are often equal, and delete some."""
    rng = random.Random(seed)
    keys = ["a", "a.b", "a.B", "a.é", "b", "B", "aa", "z\U0001f600", "z\uffff", *(f"n{n}" for n in range(20))]
    for key in keys:
        for context in ("", "fr"):
            one(writer, "create", key, context=context, value=1, tags=tuple(rng.sample(["x", "y", "z"], 2)))
    for key in rng.sample(keys, 12):
        one(writer, "update", key, value=2)
    for key in rng.sample(keys, 5):
        one(writer, "delete", key)


@pytest.mark.parametrize("sort", SORT_KEYS)
@pytest.mark.parametrize("descending", [False, True])
def test_pages_together_are_the_list(
    writer: SqlValueWriter, reader: SqlValueReader, seed: int, *, sort: Any, descending: bool
) -> None:
    """Page by page gives everything once, in one order, the same as all at once."""
    _fill(writer, seed)
    listing = Listing(sort=sort, descending=descending, deleted="with")
    whole = list(reader.each(listing))
    assert [value.address for value in whole] == [
        value.address for value in _all_pages(reader, sort, descending=descending, limit=7)
    ]
    places = [((getattr(value, sort), *value.address) if sort != "key" else value.address) for value in whole]
    assert places == sorted(places, reverse=descending)
    assert len(whole) == reader.count(listing)


def _all_pages(reader: SqlValueReader, sort: Any, *, descending: bool, limit: int) -> Sequence[DefaultValue]:
    values: list[DefaultValue] = []
    after: str | None = None
    while True:
        page: Page = reader.page(Listing(sort=sort, descending=descending, deleted="with", limit=limit, after=after))
        values += page.values
        if (after := page.next) is None:
            return values
        assert len(page.values) == limit


def test_a_page_is_not_moved_by_what_comes_and_goes(writer: SqlValueWriter, reader: SqlValueReader) -> None:
    """A value that is deleted, and one that is made, before the mark: the next page begins where the last one ended."""
    for n in range(6):
        one(writer, "create", f"k{n}", value=n)
    first = reader.page(Listing(limit=3))
    one(writer, "delete", "k1")
    one(writer, "create", "k00", value=0)
    second = reader.page(Listing(limit=3, after=first.next))
    assert [value.key for value in second.values] == ["k3", "k4", "k5"]
    assert second.next is None


@pytest.mark.parametrize("prefix", ["a", "a.", "z", "z\U0001f600", "\U0010ffff", "n1", "A"])
def test_a_prefix_is_one_to_the_letter(writer: SqlValueWriter, reader: SqlValueReader, seed: int, prefix: str) -> None:
    """Small letters are not large ones, and no sign is a wildcard."""
    _fill(writer, seed)
    found = [value.address for value in reader.each(Listing(prefix=prefix, deleted="with"))]
    every = [value.address for value in reader.each(Listing(deleted="with"))]
    assert found == [address for address in every if address[0].startswith(prefix)]


def test_filters_find_what_they_name(writer: SqlValueWriter, reader: SqlValueReader, seed: int) -> None:
    """By context, tag, deletion and time; a deleted one has its tags no more."""
    _fill(writer, seed)
    every = list(reader.each(Listing(deleted="with")))
    living = [value for value in every if not value.is_deleted]
    assert [v.address for v in reader.each(Listing())] == [v.address for v in living]
    assert [v.address for v in reader.each(Listing(deleted="only"))] == [v.address for v in every if v.is_deleted]
    assert [v.address for v in reader.each(Listing(context="fr"))] == [v.address for v in living if v.context == "fr"]
    assert [v.address for v in reader.each(Listing(tag="x"))] == [v.address for v in living if "x" in v.tags]
    middle = sorted(value.updated_at for value in every)[len(every) // 2]
    since = reader.each(Listing(updated_since=middle, deleted="with"))
    assert [v.address for v in since] == [v.address for v in every if v.updated_at >= middle]


def test_a_mark_of_another_order_is_refused(writer: SqlValueWriter, reader: SqlValueReader) -> None:
    """So is anything that was never a mark."""
    for n in range(3):
        one(writer, "create", f"k{n}", value=n)
    mark = reader.page(Listing(limit=1)).next
    for listing in (Listing(sort="version", after=mark), Listing(after="x"), Listing(after="W10"), Listing(after="é")):
        with pytest.raises(InvalidListingError):
            reader.page(listing)


def test_tags_go_with_their_value(writer: SqlValueWriter, engine: Engine) -> None:
    """No tag is left of a value that is deleted, purged or tagged anew."""
    one(writer, "create", "a", value=1, tags=("x", "y"))
    one(writer, "update", "a", tags=("z",))
    one(writer, "create", "b", value=1, tags=("x",))
    one(writer, "delete", "b")
    with engine.connect() as connection:
        assert connection.execute(sa.select(ValueTag.tag, ValueTag.key)).all() == [("z", "a")]


def test_a_guard_that_fails_leaves_nothing(engine: Engine) -> None:
    """A worker that has lost its lease changes no value and writes no line."""

    def fail(_connection: sa.Connection) -> None:
        raise TransientError

    with pytest.raises(TransientError):
        SqlValueWriter(engine, Clock()).apply([Change(action="create", key="k", value=1)], actor="ann", guard=fail)
    with begin_write(engine) as connection:
        counts = [connection.scalar(sa.select(sa.func.count()).select_from(one)) for one in (StoredValue, ValueChange)]
    assert counts == [0, 0]
