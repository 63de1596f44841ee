"""Writers that never pause: counting, adding and deleting rows while points are taken."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_KEYS = 40
_WRITERS = 2

_TABLES = """
    CREATE TABLE things (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        body jsonb NOT NULL, raw bytea, share double precision, price money, word varchar(40) COLLATE "C");
    CREATE TABLE "odd % ""name"" of it" (
        "the ""key"" too" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        thing uuid REFERENCES things ON DELETE CASCADE,
        during interval, spans int4range, CHECK ("the ""key"" too" > 0));
    CREATE INDEX ON things (made_at) WHERE share > 0.5;
    CREATE TABLE days (day date NOT NULL, amount numeric) PARTITION BY RANGE (day);
    CREATE TABLE days_old PARTITION OF days FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
    CREATE TABLE days_new PARTITION OF days FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
    INSERT INTO things (body, raw, share, price, word)
        SELECT jsonb_build_object('n', i), sha256(i::text::bytea), i / 7.0, i::numeric::money, 'ä' || i
        FROM generate_series(1, 3000) i;
    INSERT INTO "odd % ""name"" of it" (thing, during, spans)
        SELECT id, make_interval(hours => 5), int4range(1, 9) FROM things LIMIT 2000;
    INSERT INTO days SELECT date '2025-12-01' + i, i FROM generate_series(1, 60) i;
    INSERT INTO usage_offsets (partition, epoch, last_id, updated_at) VALUES (0, 'epoch', '0-0', now());
"""


@dataclass
class Writers:
    """What the writers have got done."""

    transactions: int = 0
    errors: list[BaseException] = field(default_factory=list)


def fill(url: str) -> None:
    """Make tables of many types, and the rows that writers need."""
    with psycopg.connect(libpq(url)) as connection:
        connection.execute(_TABLES)
        for key in range(_KEYS):
            connection.execute(
                "INSERT INTO usage_counts (key, context, total, accepted, rejected) VALUES (%s, '', 0, 0, 0)",
                [str(key)],
            )


@contextmanager
def writing(url: str, seed: int) -> Iterator[Writers]:
    """Have several writers at full speed during the block.

    Each transaction counts one use and moves the offset of the log by one: the sum of the counts is the offset, at
    every moment, and a restore that has a part of a transaction shows it.
    """
    writers, stop = Writers(), threading.Event()
    threads = [
        threading.Thread(target=_write, args=(url, random.Random(seed + number), writers, stop))
        for number in range(_WRITERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert writers.errors == []


def counted(connection: Connection) -> tuple[int, int]:
    """Give the sum of all counts, and the number in the offset of the log."""
    total = connection.execute(sa.text("SELECT sum(total) FROM usage_counts")).scalar_one()
    offset = connection.execute(sa.text("SELECT last_id FROM usage_offsets")).scalar_one()
    return int(total), int(offset.partition("-")[0])


def libpq(url: str) -> str:
    """Write an address of SQLAlchemy as psycopg wants it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _write(url: str, chance: random.Random, writers: Writers, stop: threading.Event) -> None:
    try:
        with psycopg.connect(libpq(url)) as connection:
            while not stop.is_set():
                _transaction(connection, chance)
                connection.commit()
                writers.transactions += 1
    except BaseException as error:  # noqa: BLE001  the test shows it
        writers.errors.append(error)


def _transaction(connection: psycopg.Connection, chance: random.Random) -> None:
    key = str(chance.randrange(_KEYS))
    connection.execute("UPDATE usage_counts SET total = total + 1 WHERE key = %s", [key])
    connection.execute(
        "UPDATE usage_offsets SET last_id = (split_part(last_id, '-', 1)::bigint + 1) || '-0' WHERE partition = 0"
    )
    added = connection.execute(
        "INSERT INTO things (body, share) VALUES ('{}', %s) RETURNING id", [chance.random()]
    ).fetchone()
    if chance.random() < 0.7:
        connection.execute("DELETE FROM things WHERE id = %s", added)
