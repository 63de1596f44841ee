"""Every way to damage a restored PostgreSQL database is noticed, and by whom; nothing is left of looking at one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from tasks.backups.drills.subjects import Subject
from tasks.backups.drills.verdicts import Verdict, judge, kill_rate
from tasks.backups.staging import Limits, Stage
from tasks.backups.store.captures.postgresql import restore_database
from tasks.backups.store.drills.postgresql import PostgresqlExaminer
from tests.integration.tasks.backups.drills.subjects import silent, table_of, tried
from tests.integration.tasks.backups.postgresql.writing import libpq

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.tasks.backups.postgresql.points import Point, Points

NOTICED_BY: Final = {
    "postgresql.drop-a-row": "postgresql.content",
    "postgresql.change-one-letter-of-a-text": "postgresql.content",
    "postgresql.change-a-number": "postgresql.content",
    "postgresql.empty-a-table": "postgresql.content",
    "postgresql.drop-a-table": "postgresql.schema",
    "postgresql.add-a-table": "postgresql.schema",
    "postgresql.drop-an-index": "postgresql.schema",
    "postgresql.make-an-index-invalid": "postgresql.schema",
    "postgresql.break-a-foreign-key": "postgresql.foreign-keys",
    "postgresql.drop-a-constraint": "postgresql.schema",
    "postgresql.drop-a-view": "postgresql.schema",
    "postgresql.change-the-migration-head": "postgresql.migration-head",
    "postgresql.move-the-newest-instant": "postgresql.newest",
}
OF_A_DIRECTORY: Final = {
    "postgresql.garble-a-page-of-a-table": "postgresql.content",
    "postgresql.garble-a-page-of-an-index": "postgresql.indexes",
}
OF_AN_INCREMENT: Final = {"postgresql.older-point": "postgresql.content"}
MORE: Final = """
    CREATE TABLE sites (id bigint PRIMARY KEY, name text NOT NULL, height numeric, seen_at timestamptz);
    CREATE TABLE visits (id bigint PRIMARY KEY, site bigint NOT NULL REFERENCES sites (id), said text);
    CREATE INDEX visits_site ON visits (site);
    CREATE VIEW latest AS SELECT max(id) FROM visits;
    INSERT INTO sites SELECT n, 'site ' || n, n / 7.0, now() - n * interval '1 hour' FROM generate_series(1, 200) n;
    INSERT INTO visits SELECT n, 1 + n % 200, 'visit ' || n FROM generate_series(1, 2000) n;
"""


def write_more(points: Points) -> None:
    """Have tables of every sort, so that every damage can be done."""
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute(MORE)


def restored_subject(points: Points, point: Point, *, as_cluster: bool) -> Subject:
    """Restore a point as a drill does."""
    room = points.directory / f"drill-{point.manifest.point}-{as_cluster}"
    database, scratch = room / "restored" / "database", room / "scratch"
    for path in (room, room / "restored", database, scratch):
        path.mkdir(mode=0o755)
    stage = Stage(directory=database, progress=silent, limits=Limits(nice=0, idle_io=False))
    restore_database(point.links(), stage, tools=points.tools, as_cluster=as_cluster)
    return Subject(
        manifest=point.manifest,
        restored=room / "restored",
        scratch=scratch,
        links=point.links(),
        limits=stage.limits,
        postgresql_tools=points.tools,
    )


def check_kills(subject: Subject, wanted: dict[str, str], impossible: set[str]) -> None:
    """Look at it, try every mutant, and see that each is noticed by who must."""
    examiner = PostgresqlExaminer()
    checks = examiner.examine(subject, silent)
    assert [check for check in checks if check.differences or check.unable] == []
    results = tried(examiner, subject)
    print(f"\n{table_of(results)}\n{kill_rate(results)} rejected")  # noqa: T201  for whoever runs it with -s
    assert {one.name for one in results if one.not_possible} == impossible
    assert [one.name for one in results if not one.not_possible and wanted[one.name] not in one.noticed_by] == []
    assert {one.name for one in results} == wanted.keys() | impossible
    assert judge(checks, results).verdict is Verdict.PASS
    equal = {check.name for check in checks if check.is_equal}
    assert equal == {*NOTICED_BY.values(), "postgresql.indexes"}
    assert [check for check in examiner.examine(subject, silent) if check.differences] == [], "nothing is left of it"


@pytest.fixture
def points(points_of: Callable[[str], Points]) -> Points:
    made = points_of("blocks")
    write_more(made)
    return made


def test_every_mutant_of_a_dump_is_noticed(points: Points) -> None:
    """It is loaded into a server that is made for it, whose database has a name that nobody else has."""
    subject = restored_subject(points, points.take(), as_cluster=False)
    check_kills(subject, NOTICED_BY, {*OF_A_DIRECTORY, *OF_AN_INCREMENT})
    assert (subject.scratch / "postgresql" / "name-of-the-database").read_text().startswith("drill_")


@pytest.mark.long
@pytest.mark.parametrize("way", ["blocks", "log"])
def test_every_mutant_of_a_data_directory_is_noticed(points_of: Callable[[str], Points], way: str) -> None:
    """Of a full and of an increment on it, also where the damage is in the pages of the files."""
    made = points_of(way)
    write_more(made)
    full = made.take()
    with psycopg.connect(libpq(made.url), autocommit=True) as connection:
        connection.execute("UPDATE visits SET said = 'changed' WHERE id % 10 = 0")
    check_kills(restored_subject(made, full, as_cluster=True), NOTICED_BY | OF_A_DIRECTORY, set(OF_AN_INCREMENT))
    increment = restored_subject(made, made.take(full), as_cluster=True)
    check_kills(increment, NOTICED_BY | OF_A_DIRECTORY | OF_AN_INCREMENT, set())


def test_a_dump_that_cannot_be_loaded_is_a_difference(points: Points) -> None:
    """Whoever would restore it would stand there with nothing."""
    subject = restored_subject(points, points.take(), as_cluster=False)
    dump = subject.restored / "database" / "dump.pgc"
    dump.write_bytes(dump.read_bytes()[:-2_000])
    checks = PostgresqlExaminer().examine(subject, silent)
    assert judge(checks, ()).verdict is Verdict.FAIL
