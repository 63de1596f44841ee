"""Messages, jobs, slices, tests and the timetable belong together: nothing is sent that nobody does."""

from __future__ import annotations

import ast
from collections import Counter
from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest

import tasks.backups.tables
import tasks.ledger.tables
import tasks.ttl.tables
import tasks.usage.tables
import tasks.values.tables  # noqa: F401 - they declare their tables on the shared metadata
from nightcrew.messages import Message, kinds, message_type
from schedules.timetable import EVERY_ENTRY
from tasks.schema import Base
from tests.architecture.house import ROOT, Source
from tests.architecture.rules import decorators

# Tests make kinds of their own, which are there or not by the order in which modules are collected.
_KINDS = sorted(kind for kind in kinds() if message_type(kind).__module__.startswith("nightcrew."))
_SLICES = sorted(path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py"))


def _slice_of(kind: str) -> str:
    """Name the slice that a kind belongs to: that of its queue, or its own where slices share a worker."""
    queue = message_type(kind).queue.removeprefix("nightcrew.")
    return kind.partition(".")[0] if queue == "analysis" else queue


def _jobs() -> list[tuple[str, str]]:
    """Give slice and message class of every job."""
    found = []
    for path in sorted((ROOT / "tasks").glob("*/jobs.py")):
        source = Source.parse(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for function in source.functions():
            for name, decorator in zip(decorators(function), function.decorator_list, strict=True):
                if name in {"job", "doorbell"} and isinstance(decorator, ast.Call):
                    found.append((path.parent.name, ast.unparse(decorator.args[0])))
    return found


def test_every_kind_has_one_job_in_the_slice_of_its_queue() -> None:
    """A message is done by exactly one job, and its queue is that of the slice where that job is."""
    assert Counter(_jobs()) == Counter((_slice_of(kind), message_type(kind).__name__) for kind in _KINDS)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_kind_is_named_after_its_module(kind: str) -> None:
    """`usage.drain` is found in `nightcrew/messages/usage.py`, and is one of two words."""
    module, verb = kind.split(".")
    assert message_type(kind).__module__ == f"nightcrew.messages.{module}"
    assert verb.replace("_", "").isalpha()
    assert issubclass(message_type(kind), Message)


@pytest.mark.parametrize("name", _SLICES)
def test_a_slice_has_tests(name: str) -> None:
    """Each slice has unit tests and tests against real servers."""
    for floor in ("unit", "integration"):
        assert list((ROOT / "tests" / floor / "tasks" / name).glob("**/test_*.py")), f"{name} has no {floor} tests"


@pytest.mark.parametrize("name", _SLICES)
def test_a_slice_says_what_it_owns(name: str) -> None:
    """The docstring of a slice names its kinds, its tables (or says that it has none) and the order to read it in."""
    text = (ROOT / "tasks" / name / "__init__.py").read_text(encoding="utf-8")
    owned = [kind for kind in _KINDS if _slice_of(kind) == name]
    tables = [
        mapper.local_table.name  # type: ignore[attr-defined]  # tables only, no joins
        for mapper in Base.registry.mappers
        if mapper.class_.__module__ == f"tasks.{name}.tables"
    ]
    missing = [word for word in [*owned, *tables, "Reading order"] if word not in text]
    assert (missing, bool(tables) or "Tables: none" in text) == ([], True)


@pytest.mark.parametrize("name", sorted(EVERY_ENTRY))
def test_an_entry_sends_what_somebody_does(name: str) -> None:
    """An entry's message has a job, survives the wire, and expires before the next one is due."""
    entry = EVERY_ENTRY[name]
    assert entry.message.kind in _KINDS
    assert type(entry.message).from_payload(entry.message.to_payload()) == entry.message
    slots = list(islice(entry.slots_after(datetime(2026, 1, 1, tzinfo=UTC)), 100))
    assert entry.expires < min(later - earlier for earlier, later in pairwise(slots))
