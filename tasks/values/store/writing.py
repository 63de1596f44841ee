"""Changing values: every change is one row of the trail, in the transaction of the change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.errors import TransientError
from tasks.transactions import begin_write
from tasks.values.changes import Refusal, decide
from tasks.values.store.rows import COLUMNS, batches, row_of, value_of
from tasks.values.tables import StoredValue, ValueChange, ValueTag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from tasks.values.changes import Change
    from tasks.values.values import Address, DefaultValue


@dataclass(frozen=True, slots=True)
class SqlValueWriter:
    """Writes values."""

    engine: Engine
    clock: Callable[[], datetime]

    def apply(
        self,
        changes: Sequence[Change],
        *,
        actor: str,
        whole: bool = False,
        guard: Callable[[Connection], None] = lambda _connection: None,
    ) -> list[DefaultValue | Refusal]:
        """Make changes in their order, in one transaction; give for each what the value is now, or why not.

        `whole`: one that is refused takes all of them back. `guard` is asked last in the transaction.

        Raises:
            TransientError: the database is away, or somebody else has just made one of the same values.
        """
        with begin_write(self.engine) as connection:
            outcomes = self._apply(connection, changes, actor)
            guard(connection)
            if whole and any(isinstance(one, Refusal) for one in outcomes):
                connection.rollback()
                return [_taken_back(change, one) for change, one in zip(changes, outcomes, strict=True)]
        return outcomes

    def purge(self, *, before: datetime, limit: int, actor: str) -> list[Address]:
        """Remove up to so many of what was deleted before an instant, with all its content; give where it was.

        The trail keeps who changed what when, and the numbers of the versions.

        Raises:
            TransientError: the database is away.
        """
        now = self.clock()
        old = and_(StoredValue.deleted_at.is_not(None), StoredValue.deleted_at < before)
        query = select(StoredValue.key, StoredValue.context, StoredValue.version).where(old)
        query = query.order_by(StoredValue.deleted_at).limit(limit).with_for_update()
        with begin_write(self.engine) as connection:
            found = [(row.key, row.context, row.version) for row in connection.execute(query)]
            for addresses in batches([(key, context) for key, context, _ in found]):
                gone = tuple_(StoredValue.key, StoredValue.context).in_(addresses)
                connection.execute(delete(StoredValue).where(gone))
                trail = tuple_(ValueChange.key, ValueChange.context).in_(addresses)
                connection.execute(update(ValueChange).where(trail).values(value=None, tags=[]))
            lines = [
                _line(key, context, version + 1, action="purge", actor=actor, at=now) for key, context, version in found
            ]
            if lines:
                connection.execute(insert(ValueChange), lines)
        return [(key, context) for key, context, _ in found]

    def _apply(self, connection: Connection, changes: Sequence[Change], actor: str) -> list[DefaultValue | Refusal]:
        # In one order for everybody, so that two writers do not wait for each other's rows.
        addresses = sorted({change.address for change in changes})
        values, versions = _locked(connection, addresses), _last_versions(connection, addresses)
        before = dict(values)
        now = self.clock()
        outcomes: list[DefaultValue | Refusal] = []
        trail: list[dict[str, Any]] = []
        for change in changes:
            current = values.get(change.address)
            outcome = decide(current, change, last_version=versions.get(change.address, 0), now=now)
            outcomes.append(outcome)
            if isinstance(outcome, Refusal) or outcome is current:
                continue
            values[change.address], versions[change.address] = outcome, outcome.version
            trail.append(_line_of(outcome, was=current, actor=actor))
        changed = [value for address, value in sorted(values.items()) if value is not before.get(address)]
        _write(connection, changed, new=[value for value in changed if value.address not in before])
        if trail:
            connection.execute(insert(ValueChange), trail)
        return outcomes


def _locked(connection: Connection, addresses: Sequence[Address]) -> dict[Address, DefaultValue]:
    """Read values that nobody else changes before the end of the transaction."""
    found: dict[Address, DefaultValue] = {}
    for some in batches(addresses):
        query = select(*COLUMNS).where(tuple_(StoredValue.key, StoredValue.context).in_(some))
        ordered = query.order_by(StoredValue.key, StoredValue.context).with_for_update()
        found |= {value.address: value for value in map(value_of, connection.execute(ordered))}
    return found


def _last_versions(connection: Connection, addresses: Sequence[Address]) -> dict[Address, int]:
    found: dict[Address, int] = {}
    for some in batches(addresses):
        query = select(ValueChange.key, ValueChange.context, func.max(ValueChange.version))
        query = query.where(tuple_(ValueChange.key, ValueChange.context).in_(some))
        rows = connection.execute(query.group_by(ValueChange.key, ValueChange.context))
        found |= {(key, context): version for key, context, version in rows}
    return found


def _write(connection: Connection, changed: Sequence[DefaultValue], *, new: Sequence[DefaultValue]) -> None:
    made = {value.address for value in new}
    if new:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        insertion = dialect.insert(StoredValue).on_conflict_do_nothing(index_elements=["key", "context"])
        for value in new:
            if connection.execute(insertion.values(row_of(value)).returning(StoredValue.key)).first() is None:
                msg = f"somebody else has just made {value.key}: try again"
                raise TransientError(msg)
    for value in changed:
        if value.address not in made:
            row = row_of(value)
            here = and_(StoredValue.key == row.pop("key"), StoredValue.context == row.pop("context"))
            connection.execute(update(StoredValue).where(here).values(**row))
    for addresses in batches([value.address for value in changed]):
        connection.execute(delete(ValueTag).where(tuple_(ValueTag.key, ValueTag.context).in_(addresses)))
    tags = [
        {"tag": tag, "key": value.key, "context": value.context}
        for value in changed
        if not value.is_deleted
        for tag in value.tags
    ]
    if tags:
        connection.execute(insert(ValueTag), tags)


def _line_of(value: DefaultValue, *, was: DefaultValue | None, actor: str) -> dict[str, Any]:
    action = "delete" if value.is_deleted else "create" if was is None or was.is_deleted else "update"
    line = _line(value.key, value.context, value.version, action=action, actor=actor, at=value.updated_at)
    return line if value.is_deleted else line | {"value": {"is": value.value}, "tags": list(value.tags)}


def _line(key: str, context: str, version: int, *, action: str, actor: str, at: datetime) -> dict[str, Any]:
    return {
        "key": key,
        "context": context,
        "version": version,
        "action": action,
        "actor": actor,
        "at": at,
        "value": None,
        "tags": [],
    }


def _taken_back(change: Change, outcome: DefaultValue | Refusal) -> Refusal:
    if isinstance(outcome, Refusal):
        return outcome
    detail = "nothing was changed, because another change of the batch was refused"
    return Refusal(key=change.key, context=change.context, fault="taken_back", detail=detail)
