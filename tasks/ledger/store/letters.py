"""The dead letters in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.ledger.dead_letters import KeptLetter
from tasks.ledger.runs import MAX_ERROR_CHARACTERS, MAX_NAME_CHARACTERS, clean
from tasks.ledger.tables import DeadLetter as DeadLetterRow
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Engine

    from tasks.ledger.dead_letters import DeadLetter
    from tasks.ledger.filters import LetterFilter

_COLUMNS = tuple(DeadLetterRow.__table__.columns)


def insert(connection: Connection, letters: Iterable[tuple[str, DeadLetter]]) -> int:
    """Keep letters, each under what makes it one; give the count of those that were new."""
    rows = [
        {
            "source": clean(letter.source, limit=MAX_NAME_CHARACTERS),
            "source_id": source_id,
            "kind": letter.kind and clean(letter.kind, limit=MAX_NAME_CHARACTERS),
            "job_id": letter.job_id and clean(letter.job_id, limit=MAX_NAME_CHARACTERS),
            "reason": clean(letter.reason, limit=MAX_ERROR_CHARACTERS),
            "body": clean(letter.body, limit=len(letter.body) * 8 + 1),
            "received_at": letter.received_at,
        }
        for source_id, letter in letters
    ]
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(DeadLetterRow).on_conflict_do_nothing().returning(DeadLetterRow.id)
    return len(connection.execute(statement, rows).all())


def keep(engine: Engine, letters: Iterable[tuple[str, DeadLetter]]) -> int:
    """Keep letters in a transaction of their own; give the count of those that were new."""
    with begin_write(engine) as connection:
        return insert(connection, letters)


def newest(engine: Engine, wanted: LetterFilter, *, include_retried: bool, limit: int) -> list[KeptLetter]:
    """List the letters that pass, the last received first."""
    order = (DeadLetterRow.received_at.desc(), DeadLetterRow.id.desc())
    query = select(*_COLUMNS).where(*_passes(wanted, include_retried=include_retried)).order_by(*order).limit(limit)
    with begin_read(engine) as connection:
        return [KeptLetter(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001  documented name


def open_numbers(engine: Engine, wanted: LetterFilter, *, limit: int | None) -> list[int]:
    """List the numbers of the letters that pass and that nobody has tried again, the first received first."""
    order = (DeadLetterRow.received_at, DeadLetterRow.id)
    query = select(DeadLetterRow.id).where(*_passes(wanted, include_retried=False)).order_by(*order).limit(limit)
    with begin_read(engine) as connection:
        return list(connection.scalars(query))


def by_id(engine: Engine, letter_id: int) -> KeptLetter | None:
    """Find a letter."""
    with begin_read(engine) as connection:
        row = connection.execute(select(*_COLUMNS).where(DeadLetterRow.id == letter_id)).one_or_none()
    return None if row is None else KeptLetter(**row._mapping)  # noqa: SLF001  documented name


def note_retried(engine: Engine, letter_id: int, *, now: datetime) -> None:
    """Note that an operator tried it again."""
    with begin_write(engine) as connection:
        connection.execute(update(DeadLetterRow).where(DeadLetterRow.id == letter_id).values(retried_at=now))


def count_open(engine: Engine) -> int:
    """Count the letters that nobody has tried again."""
    with begin_read(engine) as connection:
        count = select(func.count()).select_from(DeadLetterRow).where(DeadLetterRow.retried_at.is_(None))
        return connection.scalar(count) or 0


def _passes(wanted: LetterFilter, *, include_retried: bool) -> list[ColumnElement[bool]]:
    exact = {"source": wanted.source, "kind": wanted.kind, "job_id": wanted.job_id}
    conditions: list[ColumnElement[bool]] = [
        getattr(DeadLetterRow, name) == value for name, value in exact.items() if value is not None
    ]
    if wanted.reason is not None:
        conditions.append(DeadLetterRow.reason.icontains(wanted.reason, autoescape=True))
    if not include_retried:
        conditions.append(DeadLetterRow.retried_at.is_(None))
    return conditions
