"""A database such as a small shop has, of any size, and two ways in which a day changes it; seeded, the same each time.

Of every 900 MB: 300,000 customers (two unique indexes of random text), 1,700,000 events (a JSON payload, two indexes),
180,000 documents (words by Zipf's law) and 30,000 blobs of 2 KB that nothing compresses.
"""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Way = Literal["hot", "uni"]
"""Nine updates of ten in the newest 3 % of the rows · all rows alike."""

WHOLE_BYTES: Final = 900_000_000
_ROWS_OF_WHOLE: Final = {"customers": 300_000, "events": 1_700_000, "documents": 180_000, "blobs": 30_000}
_SCHEMA: Final = """
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    balance REAL NOT NULL, updated_at BIGINT NOT NULL
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, kind TEXT NOT NULL,
    payload TEXT NOT NULL, happened_at BIGINT NOT NULL
);
CREATE INDEX events_customer ON events (customer_id, kind);
CREATE INDEX events_happened ON events (happened_at);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, title TEXT NOT NULL,
    body TEXT NOT NULL, updated_at BIGINT NOT NULL
);
CREATE TABLE blobs (id INTEGER PRIMARY KEY, content BLOB NOT NULL);
"""
_UPDATES: Final = {
    "customers": "UPDATE customers SET balance = :balance, updated_at = :at WHERE id = :id",
    "events": "UPDATE events SET payload = :payload WHERE id = :id",
    "documents": "UPDATE documents SET title = :title, body = :body, updated_at = :at WHERE id = :id",
    "blobs": "UPDATE blobs SET content = :content WHERE id = :id",
}
_INSERTS: Final = {
    "customers": "INSERT INTO customers VALUES (:id, :uuid, :email, :name, :balance, :at)",
    "events": "INSERT INTO events VALUES (:id, :customer, :kind, :payload, :at)",
    "documents": "INSERT INTO documents VALUES (:id, :customer, :title, :body, :at)",
    "blobs": "INSERT INTO blobs VALUES (:id, :content)",
}
_KINDS: Final = ("page_viewed", "cart_changed", "order_placed", "order_paid", "parcel_sent", "mail_opened")
_PATHS: Final = 20_000
_AGENTS: Final = 2_000
_BEGAN_AT_US: Final = 1_700_000_000_000_000
_HOT_SHARE: Final = 0.03
_HOT_UPDATES: Final = 0.9

Row = dict[str, str | int | float | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A database file, and how many rows each table was built with."""

    path: Path
    rows: Mapping[str, int]

    def at(self, path: Path) -> Shop:
        """Give a copy of it that lies elsewhere."""
        return replace(self, path=path)


def build_shop(path: Path, *, size_bytes: int = WHOLE_BYTES, seed: int = 1) -> Shop:
    """Write a new database of about this size."""
    rows = {table: max(20, round(count * size_bytes / WHOLE_BYTES)) for table, count in _ROWS_OF_WHOLE.items()}
    author = _Author(seed, rows["customers"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(f"BEGIN; {_SCHEMA}")
        for table, count in rows.items():
            connection.executemany(_INSERTS[table], author.rows(table, range(1, count + 1)))
        connection.execute("COMMIT")
    return Shop(path=path, rows=rows)


def change_shop(shop: Shop, way: Way, *, share: float = 0.01, seed: int = 2) -> Shop:
    """Update a share of the rows of each table in place, and append as many."""
    author = _Author(seed, shop.rows["customers"])
    after = {}
    with closing(sqlite3.connect(shop.path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; BEGIN")
        for table, count in shop.rows.items():
            changes = max(1, round(count * share))
            ids = [author.chosen(count, way) for _ in range(changes)]
            connection.executemany(_UPDATES[table], author.rows(table, ids))
            connection.executemany(_INSERTS[table], author.rows(table, range(count + 1, count + changes + 1)))
            after[table] = count + changes
        connection.execute("COMMIT")
    return Shop(path=shop.path, rows=after)


class _Author:
    """Makes rows up."""

    def __init__(self, seed: int, customers: int) -> None:
        self._random = random.Random(seed)
        self._customers = customers
        self._words = _vocabulary(random.Random(0))
        self._weights = list(accumulate(1 / rank for rank in range(1, len(self._words) + 1)))
        self._paths = ["/" + "/".join(self._words_of(3)) for _ in range(_PATHS)]
        self._agents = [f"Mozilla/5.0 (X11; Linux x86_64) {self._text(8)}" for _ in range(_AGENTS)]

    def rows(self, table: str, ids: range | list[int]) -> Iterator[Row]:
        """Give a row for each id, with everything that the statements of the table name."""
        write = {"customers": self._customer, "events": self._event, "documents": self._document, "blobs": self._blob}
        for number in ids:
            yield {"id": number, "at": _BEGAN_AT_US + number * 1_000_003, **write[table](number)}

    def chosen(self, count: int, way: Way) -> int:
        """Choose the id of a row to update."""
        first = 1
        if way == "hot" and self._random.random() < _HOT_UPDATES:
            first = max(1, round(count * (1 - _HOT_SHARE)))
        return self._random.randint(first, count)

    def _customer(self, number: int) -> Row:
        name = self._text(2).title()
        return {
            "uuid": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "email": f"{self._random.getrandbits(40):x}.{number}@{self._text(1)}.example",
            "name": name,
            "balance": round(self._random.random() * 1e4, 2),
        }

    def _event(self, number: int) -> Row:
        payload = {
            "request": f"{self._random.getrandbits(64):016x}",
            "path": self._random.choice(self._paths),
            "duration_ms": round(self._random.expovariate(0.02), 1),
            "item": self._random.randrange(50_000),
            "agent": self._random.choice(self._agents),
            "is_new": number % 7 == 0,
        }
        return {
            "customer": self._random.randint(1, self._customers),
            "kind": self._random.choice(_KINDS),
            "payload": json.dumps(payload),
        }

    def _document(self, number: int) -> Row:
        return {
            "customer": 1 + number % self._customers,
            "title": self._text(5).capitalize(),
            "body": self._text(self._random.randint(100, 560)),
        }

    def _blob(self, _number: int) -> Row:
        return {"content": self._random.randbytes(2_000)}

    def _text(self, words: int) -> str:
        return " ".join(self._words_of(words))

    def _words_of(self, count: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._weights, k=count)


def _vocabulary(chance: random.Random, count: int = 20_000) -> list[str]:
    """Make words of two-letter syllables; those used most are the shortest, as in every language."""
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    words = {"".join(chance.choices(syllables, k=chance.choice((1, 2, 2, 3, 3, 4, 5)))) for _ in range(count)}
    return sorted(words, key=lambda word: (len(word), word))
