"""Damage by statements: wherever it falls, it is done, it can be done again, and those who look at rows notice it."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tasks.backups.store.drills import sqlite_mutants
from tasks.backups.store.drills.copies import chance
from tasks.backups.store.drills.sqlite import SqliteExaminer
from tasks.backups.store.drills.sqlite_damages import BY_STATEMENTS, NothingToDamageError, Planner
from tests.integration.tasks.backups.drills.captured import FILE, Chain
from tests.integration.tasks.backups.drills.subjects import silent, tried

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.backups.drills.subjects import Subject

SCHEMA = (
    "CREATE TABLE alembic_version (version_num TEXT PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('0001')",
    "CREATE TABLE usage_offsets (partition INTEGER PRIMARY KEY, epoch TEXT, last_id TEXT)",
    "INSERT INTO usage_offsets VALUES (0, 'epoch', '1-1'), (1, 'epoch', '2-0')",
    "CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, height REAL CHECK (height < 4))",
    "CREATE TABLE visits (id TEXT PRIMARY KEY, site INTEGER REFERENCES sites (id), seen_at INTEGER, n INTEGER)",
    "CREATE INDEX visits_site ON visits (site)",
    "CREATE TABLE pairs (one INTEGER, two INTEGER, said TEXT, PRIMARY KEY (one, two)) WITHOUT ROWID",
    'CREATE TABLE "odd ""name""" ("the ""value""" TEXT, doubled TEXT AS ("the ""value""" || \'!\') STORED) STRICT',
    "CREATE VIEW latest AS SELECT max(seen_at) FROM visits",
    "CREATE TABLE vacant (id INTEGER PRIMARY KEY, said TEXT)",
    "CREATE INDEX vacant_said ON vacant (said)",
    "INSERT INTO sites SELECT value * 7, 'site ' || value, value / 7.0 FROM json_each('[0,1,2,3,4,5,6,7,8,9]')",
    "INSERT INTO visits SELECT 'visit ' || id, id, 1700000000000000 + id, id % 3 FROM sites",
    "INSERT INTO pairs SELECT id, id + 1, name FROM sites",
    'INSERT INTO "odd ""name""" ("the ""value""") SELECT name FROM sites',
    # Who would refuse the damage, or mend it.
    "CREATE TRIGGER visits_stay BEFORE DELETE ON visits BEGIN SELECT RAISE(ABORT, 'visits stay'); END",
    "CREATE TRIGGER sites_come_back AFTER UPDATE ON sites BEGIN UPDATE sites SET height = old.height; END",
)
BY_STATEMENT = {f"sqlite.{name}" for name in BY_STATEMENTS}
SEEDS = 6


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    chain = Chain(tmp_path)
    chain.do(*SCHEMA)
    chain.take()
    return chain.subject()


def test_wherever_it_falls_those_who_look_at_rows_notice_it(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of text, tables without numbers, names with quotes, worked out columns, triggers: none is in the way."""
    for seed in range(SEEDS):
        monkeypatch.setattr(sqlite_mutants, "chance", lambda _, name, seed=seed: random.Random(f"{seed} {name}"))
        results = [one for one in tried(SqliteExaminer(), subject) if one.name in BY_STATEMENT]
        assert [one.name for one in results if one.not_possible] == []
        assert [one.name for one in results if not {*one.noticed_by} - {"sqlite.file", "sqlite.alone"}] == []
        of_schema = {one.name for one in results if "sqlite.schema" in one.noticed_by}
        assert all("sqlite.drop-a" in name for name in of_schema), "triggers that were in the way are back"


def test_the_same_drill_damages_the_same(subject: Subject) -> None:
    """A survivor can be looked at again: what is chosen depends on the point alone."""
    with closing(sqlite3.connect(subject.restored / FILE)) as connection:
        for plan in BY_STATEMENTS.values():
            one, other = (plan(Planner(connection, random.Random(7))) for _ in range(2))
            assert one == other
    names = [mutant.name for mutant in SqliteExaminer().mutants(subject, silent)]
    assert len(names) == len(set(names))


def test_chance_depends_on_point_and_mutant(subject: Subject) -> None:
    """And on nothing else: no two mutants of a point damage the same place by the same chance."""
    other = replace(subject, manifest=subject.manifest.model_copy(update={"point": "0" * 12}))
    drawn = [chance(one, name).random() for one, name in ((subject, "a"), (subject, "b"), (other, "a"))]
    assert len(set(drawn)) == 3
    assert chance(subject, "a").random() == drawn[0]


def test_rows_that_change_places_are_no_damage(tmp_path: Path) -> None:
    """Of rows that have one value each, two cannot be swapped so that anything is another."""
    chain = Chain(tmp_path)
    chain.do("CREATE TABLE notes (said TEXT)", "INSERT INTO notes VALUES ('one'), ('two')")
    chain.take()
    results = {one.name: one for one in tried(SqliteExaminer(), chain.subject())}
    assert results["sqlite.swap-two-values"].not_possible == "no two rows differ in what could be swapped"


def test_text_that_is_none_is_left_alone(tmp_path: Path) -> None:
    """It cannot be changed by a letter; that is told, and everything else goes on."""
    chain = Chain(tmp_path)
    chain.do("CREATE TABLE notes (said TEXT)", "INSERT INTO notes VALUES (CAST(x'61ff62' AS TEXT))")
    chain.take()
    results = {one.name: one for one in tried(SqliteExaminer(), chain.subject())}
    assert results["sqlite.change-one-byte-of-a-text"].not_possible == "a text is not written in UTF-8"
    assert results["sqlite.drop-a-row"].is_killed
    assert [one.name for one in results.values() if one.survived] == []


def test_a_plan_says_what_is_missing() -> None:
    """An empty database has nothing, and each damage says what it would need."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for plan in BY_STATEMENTS.values():
            with pytest.raises(NothingToDamageError, match=r"^(there|no|nothing) "):
                plan(Planner(connection, random.Random(0)))
