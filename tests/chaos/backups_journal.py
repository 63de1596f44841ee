"""A database that changes while it is captured, and what it held after each change: what restores are held against."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import subprocess
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from tasks.backups.staging import Limits
from tasks.backups.store.captures.postgresql import private_server
from tasks.backups.store.hashing import sha256_of
from tasks.backups.store.targets import enterable
from tasks.transactions import begin_write
from tests.support.databases import opened_engine
from tests.support.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tasks.backups.manifest import Manifest

_TEXT_BYTES: Final = 200
_HOT: Final = 150
"""So many of the newest rows change; the others are what an increment spares."""
_PACE_S: Final = 0.02
_MODULUS: Final = 2**128

_TICK: Final = sa.text("INSERT INTO ticks VALUES (:number)")
_UPDATE: Final = sa.text("UPDATE notes SET text = :text WHERE id = :id")
_INSERT: Final = sa.text("INSERT INTO notes VALUES (:id, :text)")
_NOTES: Final = "SELECT id, text FROM notes"
_TICKS: Final = "SELECT number FROM ticks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a database holds: how many changes, and what they came to."""

    tick: int
    state: int


class Journal:
    """Changes the notes of a crew, a transaction at a time, and remembers what each of them came to."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine = engine
        self._chance = random.Random(seed)
        self._changing = threading.Lock()
        with begin_write(engine) as connection:
            connection.execute(sa.text("CREATE TABLE ticks (number INTEGER PRIMARY KEY)"))
            self._notes: dict[int, str] = {row.id: row.text for row in connection.execute(sa.text(_NOTES))}
        self._states = [_state_of(self._notes.items())]

    @property
    def last(self) -> int:
        """Number of the last change that is committed."""
        with self._changing:
            return len(self._states) - 1

    def change(self, rows: int) -> None:
        """Update so many rows and append half as many, in one transaction."""
        with self._changing:
            newest, number, state = max(self._notes), len(self._states), self._states[-1]
            updates = {newest - self._chance.randrange(_HOT): self._text() for _ in range(rows)}
            inserts = {newest + 1 + offset: self._text() for offset in range(rows // 2)}
            for key, text in updates.items():
                state += _weight(key, text) - _weight(key, self._notes[key])
            state += sum(_weight(key, text) for key, text in inserts.items())
            self._notes |= updates | inserts
            with begin_write(self._engine) as connection:
                connection.execute(_TICK, {"number": number})
                for statement, changed in ((_UPDATE, updates), (_INSERT, inserts)):
                    if changed:
                        connection.execute(statement, [{"id": key, "text": text} for key, text in changed.items()])
                # Before anybody can see it: whoever captures it may look here at once.
                self._states.append(state % _MODULUS)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Change a row now and then during the block."""
        stop, errors = threading.Event(), list[Exception]()

        def write() -> None:
            try:
                while not stop.is_set():
                    self.change(1)
                    pause(_PACE_S)
            except Exception as error:  # noqa: BLE001  raised below, in the thread of the test
                errors.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            stop.set()
            writer.join()
        if errors:
            raise errors[0]

    def assert_was(self, moment: Moment, *, earliest: int, latest: int) -> None:
        """See that the database was once exactly so, and that it was in that time."""
        assert earliest <= moment.tick <= latest, f"of change {moment.tick}, and taken from {earliest} to {latest}"
        assert moment.state == self._states[moment.tick], f"not what it was after change {moment.tick}"

    def _text(self) -> str:
        return self._chance.randbytes(_TEXT_BYTES).hex()


def moment_in(restored: Path, manifest: Manifest, *, tools: Path | None) -> Moment:
    """Read what a restored database holds, without any code that restored it; byte for byte where there are bytes."""
    database = restored / "database"
    if (cluster := database / "cluster").exists():
        with (
            enterable(restored, database),
            private_server(
                cluster, database="postgres", role="postgres", tools=tools, limits=_LIMITS, tick=lambda: None
            ) as url,
            opened_engine(url.render_as_string(hide_password=False)) as engine,
            engine.connect() as connection,
        ):
            ticks = connection.execute(sa.text(_TICKS)).scalars()
            return _moment(ticks, (tuple(row) for row in connection.execute(sa.text(_NOTES))))
    if (dump := database / "dump.pgc").exists():
        assert tools is not None
        return _moment((int(row[0]) for row in _dumped(dump, "ticks", tools)), _notes_in(_dumped(dump, "notes", tools)))
    [file] = database.iterdir()
    assert manifest.database is not None
    assert sha256_of(file, tick=lambda _done: None) == manifest.database.file_sha256
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return _moment((row[0] for row in connection.execute(_TICKS)), connection.execute(_NOTES))


_LIMITS: Final = Limits(nice=0, idle_io=False)


def _moment(ticks: Iterable[int], notes: Iterable[tuple[int, str]]) -> Moment:
    numbers = sorted(ticks)
    assert numbers == list(range(1, len(numbers) + 1)), "changes are missing"
    return Moment(tick=len(numbers), state=_state_of(notes))


def _notes_in(rows: Iterable[list[str]]) -> Iterator[tuple[int, str]]:
    return ((int(key), text) for key, text in rows)


def _dumped(dump: Path, table: str, tools: Path) -> Iterator[list[str]]:
    """Read the rows of a table out of a dump, as the text of COPY."""
    argv: list[str | Path] = [tools / "pg_restore", "--data-only", f"--table={table}", "--file=-", dump]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    _, _, rest = text.partition("\nCOPY ")
    for line in rest.splitlines()[1:]:
        if line == "\\.":
            return
        yield line.split("\t")


def _state_of(notes: Iterable[tuple[int, str]]) -> int:
    return sum(_weight(key, text) for key, text in notes) % _MODULUS


def _weight(key: int, text: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{key}:{text}".encode(), digest_size=16).digest(), "big")
