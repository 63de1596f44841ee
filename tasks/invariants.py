"""What must be true of the crew's own data at every moment, whatever they are: asked of restored databases.

An invariant is data, not code: one query that finds what must not be, one that counts what was looked at, and damage
that must be found. A slice declares those of its own tables in its `invariants.py`; the process collects them. A slice
that adds tables says there what is always true of them.

Only what holds after every transaction can be one: a drill that finds a violation fails. What two clocks
have written is never compared to the second, and nothing is claimed of rows that retention may have taken away.

Queries are plain SQL that SQLite and PostgreSQL both read. They may use these parameters:

    :latest        instant: the latest that a clock of the crew may have shown when the database was captured
    :latest_hour   the same as whole hours since 1970-01-01T00Z
    :far_ahead     instant: a year after the capture; for damage
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLOCKS_APART: Final = timedelta(days=1)
"""How far a clock of the crew may be ahead before what it has written counts as impossible. The most usual error, a
clock that keeps local time, is smaller than that. What is further ahead would fool retention and timetable as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A way to break an invariant, so that a drill can see that breaking it is noticed."""

    name: str
    """In kebab case, such as `count-off-by-one`."""
    statements: Sequence[str]
    """SQL that breaks it in a copy; it changes no row where there is nothing to break."""
    possible: str
    """A query that gives a row exactly where the damage can be done: an empty table cannot be broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """Something that is always true.

    Raises:
        ValueError: it has no damage: nobody would know whether it ever finds anything.
    """

    name: str
    """Slice and sentence in kebab case, such as `usage.hours-sum-to-counts`."""
    says: str
    """The same for people, as a sentence without a full stop."""
    tables: Sequence[str]
    """What it reads; a database without one of them is of another release, and is told as not looked at."""
    counted: str
    """A query that gives one number: how many rows were looked at."""
    violations: str
    """A query that gives one text per violation."""
    damages: Sequence[Damage] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Refuse one that cannot be seen to fail."""
        if not self.damages:
            msg = f"the invariant {self.name} has no damage: say how it is broken"
            raise ValueError(msg)


def nothing_later_than_capture(part: str, columns: Mapping[str, Sequence[str]]) -> Invariant:
    """Make the invariant that no instant of these columns, by table, lies after the capture.

    Name only what tells of the past, by a clock of the crew: leases, next tries and ends of pauses are plans, and what
    an app says of its own clock is not the crew's to promise.
    """
    pairs = [(table, column) for table, names in columns.items() for column in names]
    found = (
        f"SELECT '{table}.{column} lies after the capture in ' || ahead || ' rows' FROM "  # noqa: S608
        f"(SELECT count(*) AS ahead FROM {table} WHERE {column} > :latest) AS late WHERE ahead > 0"
        for table, column in pairs
    )
    counts = (f"(SELECT count(*) FROM {table})" for table in columns)  # noqa: S608  names of the program's own
    return Invariant(
        name=f"{part}.nothing-later-than-capture",
        says="no instant that tells of the past lies after the moment of the capture",
        tables=tuple(columns),
        counted=f"SELECT {' + '.join(counts)}",
        violations=" UNION ALL ".join(found),
        damages=tuple(_written_ahead(table, column) for table, column in pairs),
    )


def _written_ahead(table: str, column: str) -> Damage:
    newest = f"(SELECT max({column}) FROM {table})"  # noqa: S608  names of the program's own, here and below
    return Damage(
        name=f"{table}-{column}-ahead".replace("_", "-"),
        statements=(f"UPDATE {table} SET {column} = :far_ahead WHERE {column} = {newest}",),  # noqa: S608
        possible=f"SELECT 1 FROM {table} WHERE {column} IS NOT NULL LIMIT 1",  # noqa: S608
    )
