"""Damaged chains, and the walls that they meet one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tasks.backups.operations.sources import CrewAssembler
from tasks.backups.staging import Limits
from tasks.backups.store.drills.chain import ChainExaminer
from tasks.backups.store.drills.sqlite import SqliteExaminer
from tests.integration.tasks.backups.crew import Crew
from tests.integration.tasks.backups.drills.captured import Chain
from tests.integration.tasks.backups.drills.subjects import restored_set, silent, tried
from tests.support.databases import migrate_database, opened_engine
from tests.support.postgres import PostgresServer
from tests.support.processes import short_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.backups.staging import Link, Progress
    from tests.support.redis import RedisServer

ASSEMBLER = CrewAssembler(postgresql_tools=None, limits=Limits())
WITH_THE_RIGHT_HASHES = {
    "chain.flip-a-bit-and-its-hash",
    "chain.exchange-two-deltas-and-their-hashes",
    "chain.leave-out-a-delta-and-close-the-gap",
}


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path)
    made.do("CREATE TABLE notes (id INTEGER PRIMARY KEY, said TEXT)", "INSERT INTO notes (said) VALUES ('a'), ('b')")
    made.take()
    return made


class Careless(CrewAssembler):
    """Gives the database of the full for whatever chain it gets."""

    def assemble(self, links: Sequence[Link], to: Path, progress: Progress) -> Sequence[Path]:
        return super().assemble(links[:1], to, progress)


def test_a_full_alone_has_mutants_too(chain: Chain) -> None:
    """Those of a full and of the manifest; the others say that there is no delta."""
    subject = chain.subject()
    examiner = ChainExaminer(assembler=ASSEMBLER)
    assert [(one.name, one.outcome, one.examined) for one in examiner.examine(subject, silent)][1:] == [
        ("chain.lineage", "equal", 1),
        ("chain.members", "equal", 1),
    ]
    results = tried(examiner, subject)
    assert [one.name for one in results if one.survived] == []
    assert {one.name for one in results if one.is_killed} == {
        "chain.flip-a-bit-of-the-manifest",
        "chain.flip-a-bit-of-the-full",
        "chain.truncate-the-full",
        "chain.leave-out-the-full",
        "chain.flip-a-bit-and-its-hash",
    }
    assert {one.not_possible for one in results if one.not_possible} == {"the point is a full: there is no delta"}


def test_of_a_chain_that_was_not_kept_only_the_manifest_is_looked_at(chain: Chain) -> None:
    """Nothing is said of the rest, and nothing of it can be damaged; a file that is gone from one is a difference."""
    subject = chain.subject()
    examiner = ChainExaminer(assembler=ASSEMBLER)
    without = replace(subject, links=())
    assert [one.name for one in examiner.examine(without, silent)] == ["chain.manifest"]
    results = tried(examiner, without)
    assert [one.name for one in results if not one.not_possible] == ["chain.flip-a-bit-of-the-manifest"]
    assert all(one.is_killed for one in results if not one.not_possible)
    (subject.links[0].directory / "database/full.sqlite.zst").unlink()
    [_, _, members] = examiner.examine(subject, silent)
    assert members.differences


def test_what_an_assembler_lets_pass_the_database_tells(chain: Chain) -> None:
    """Behind the hashes stands the assembler, and behind that what looks at rows: the last wall notices by itself."""
    for _ in range(2):
        chain.do("INSERT INTO notes (said) SELECT said || 'c' FROM notes")
        chain.take()
    subject = chain.subject()
    careless = Careless(postgresql_tools=None, limits=Limits())
    results = {one.name: one for one in tried(ChainExaminer(assembler=ASSEMBLER), subject)}
    assert {name for name in results if results[name].noticed_by == ("chain.assembly",)} == WITH_THE_RIGHT_HASHES
    passed = {one.name: one for one in tried(ChainExaminer(assembler=careless), subject)}
    name = "chain.leave-out-a-delta-and-close-the-gap"
    assert passed[name].survived, "nobody looks behind a careless assembler"
    looked = {one.name: one for one in tried(ChainExaminer(assembler=careless, examiners=[SqliteExaminer()]), subject)}
    assert {"sqlite.file", "sqlite.content"} <= {*looked[name].noticed_by}
    assert [*subject.scratch.iterdir()] == []


def test_a_delta_that_changes_nothing_can_be_missing(chain: Chain) -> None:
    """To leave it out is no damage, and so no mutant."""
    chain.take()
    chain.do("INSERT INTO notes (said) VALUES ('c')")
    chain.take()
    results = {one.name: one for one in tried(ChainExaminer(assembler=ASSEMBLER), chain.subject())}
    left_out = results["chain.leave-out-a-delta-and-close-the-gap"]
    assert left_out.not_possible == "no delta but the last changes anything"
    assert [one.name for one in results.values() if one.survived] == []


@pytest.mark.long
@pytest.mark.parametrize("summarize_wal", ["on", "off"], ids=["blocks", "log"])
def test_chains_of_postgresql_are_damaged_in_the_same_ways(
    redis_server: RedisServer, seed: int, summarize_wal: str
) -> None:
    """Their files are others, and so are the assembler's words: every mutant is noticed."""
    options = {"full_page_writes": "on", "wal_level": "replica", "max_slot_wal_keep_size": "2GB"}
    with short_directory() as place, short_directory() as directory:
        for path in (place, directory):
            path.chmod(0o755)
        server = PostgresServer(place, options={**options, "summarize_wal": summarize_wal})
        try:
            server.start()
            url = server.url.render_as_string(hide_password=False)
            migrate_database(url)
            with opened_engine(url) as engine:
                crew = Crew(engine, redis_server.client(), directory, seed, postgresql_tools=server.programs)
                crew.full()
                for _ in range(2):
                    crew.change_some()
                    newest = crew.incremental()
                point = restored_set(crew, newest["point"])
                results = tried(ChainExaminer(assembler=point.assembler), point.subject)
        finally:
            server.close()
    assert [one.name for one in results if one.survived] == []
    not_possible = {one.name for one in results if one.not_possible}
    assert not_possible == (
        set() if summarize_wal == "on" else WITH_THE_RIGHT_HASHES - {"chain.flip-a-bit-and-its-hash"}
    )
