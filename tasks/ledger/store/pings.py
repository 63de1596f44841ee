"""The pings in SQL: who sends which, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, select, update

from tasks.ledger.pings import DuePing
from tasks.ledger.tables import Ping
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Engine

_COLUMNS = (Ping.id, Ping.entry, Ping.run_id, Ping.signal, Ping.detail, Ping.created_at, Ping.tries)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """Pings that did not get through."""

    count: int
    entry: str
    """Of the last of them."""
    error: str


def claim_due(engine: Engine, *, now: datetime, lease: timedelta) -> DuePing | None:
    """Claim a ping that is due; None when there is none.

    Of any number of senders one gets it, until its lease ends: then it is due again. Only the oldest ping of an entry
    that is still to be sent can be due, so that the switch hears of start and end in their order.
    """
    oldest = select(func.min(Ping.id)).where(Ping.sent_at.is_(None)).group_by(Ping.entry)
    due = select(*_COLUMNS).where(Ping.id.in_(oldest), Ping.try_at <= now).order_by(Ping.try_at, Ping.id)
    with begin_read(engine) as connection:
        found = connection.execute(due).all()
    for row in found:
        unchanged = (Ping.id == row.id, Ping.sent_at.is_(None), Ping.tries == row.tries)
        claim = update(Ping).where(*unchanged).values(tries=row.tries + 1, try_at=now + lease)
        with begin_write(engine) as connection:
            if connection.execute(claim).rowcount:
                return DuePing(**{**row._mapping, "tries": row.tries + 1})  # noqa: SLF001  documented name
    return None


def note_sent(engine: Engine, ping: DuePing, *, now: datetime) -> None:
    """Note that a ping got through."""
    _note(engine, ping, sent_at=now, error=None)


def note_failed(engine: Engine, ping: DuePing, *, error: str, try_at: datetime) -> None:
    """Note that a try failed, and when the next one is."""
    _note(engine, ping, try_at=try_at, error=error)


def note_given_up(engine: Engine, ping: DuePing, *, error: str, now: datetime) -> None:
    """Note that a ping is not tried any more."""
    _note(engine, ping, sent_at=now, error=error)


def give_up_unsent(engine: Engine, *, before: datetime, error: str, now: datetime) -> int:
    """Give up what nobody has sent since an instant; give the count."""
    unsent = (Ping.sent_at.is_(None), Ping.created_at < before)
    with begin_read(engine) as connection:
        if not connection.scalar(select(exists().where(*unsent))):
            return 0
    with begin_write(engine) as connection:
        return connection.execute(update(Ping).where(*unsent).values(sent_at=now, error=error)).rowcount


def give_up_surplus(engine: Engine, *, most: int, error: str, now: datetime) -> int:
    """Give up the oldest of each entry that has more than `most` to be sent; give the count."""
    crowded = select(Ping.entry).where(Ping.sent_at.is_(None)).group_by(Ping.entry).having(func.count() > most)
    with begin_read(engine) as connection:
        entries = connection.scalars(crowded).all()
    return sum(_give_up_oldest(engine, entry, most=most, error=error, now=now) for entry in entries)


def given_up(engine: Engine, *, since: datetime) -> GivenUp | None:
    """Give the pings that were given up since an instant; None without any."""
    lost = (Ping.sent_at >= since, Ping.error.is_not(None))
    with begin_read(engine) as connection:
        count = connection.scalar(select(func.count()).select_from(Ping).where(*lost)) or 0
        last = connection.execute(
            select(Ping.entry, Ping.error).where(*lost).order_by(Ping.sent_at.desc(), Ping.id.desc()).limit(1)
        ).one_or_none()
    return None if last is None else GivenUp(count=count, entry=last.entry, error=last.error)


def _give_up_oldest(engine: Engine, entry: str, *, most: int, error: str, now: datetime) -> int:
    unsent = (Ping.entry == entry, Ping.sent_at.is_(None))
    with begin_write(engine) as connection:
        last = connection.scalar(select(Ping.id).where(*unsent).order_by(Ping.id.desc()).offset(most).limit(1))
        if last is None:
            return 0
        surplus = update(Ping).where(*unsent, Ping.id <= last)
        return connection.execute(surplus.values(sent_at=now, error=error)).rowcount


def _note(engine: Engine, ping: DuePing, **values: object) -> None:
    # A sender whose lease has ended must not undo what the next one noted.
    mine = (Ping.id == ping.id, Ping.tries == ping.tries, Ping.sent_at.is_(None))
    with begin_write(engine) as connection:
        connection.execute(update(Ping).where(*mine).values(**values))
