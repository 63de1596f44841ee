"""Every way to damage a restored SQLite point is noticed, and by whom: the table of the drill of the drill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import sqlalchemy as sa

from tasks.backups.drills.verdicts import MutantResult, Verdict, judge, kill_rate
from tasks.backups.store.drills.chain import ChainExaminer
from tasks.backups.store.drills.key import KeyExaminer
from tasks.backups.store.drills.sqlite import SqliteExaminer
from tasks.backups.store.drills.vault import VaultExaminer
from tasks.transactions import begin_write
from tests.integration.tasks.backups.crew import Crew
from tests.integration.tasks.backups.drills.subjects import restored_set, silent, table_of, tried

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from tasks.backups.drills.subjects import Examiner
    from tests.integration.tasks.backups.drills.subjects import Set
    from tests.support.redis import RedisServer

MORE: Final = (
    "CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, height REAL, seen_at INTEGER)",
    "CREATE TABLE visits (id INTEGER PRIMARY KEY, site INTEGER NOT NULL REFERENCES sites (id), said TEXT)",
    "CREATE INDEX visits_site ON visits (site)",
    "CREATE VIEW latest AS SELECT max(id) FROM visits",
    # These would mend or refuse the damage, if they were in the way of it.
    "CREATE TRIGGER visits_stay BEFORE DELETE ON visits BEGIN SELECT RAISE(ABORT, 'visits stay'); END",
    "CREATE TRIGGER sites_stay BEFORE UPDATE ON sites BEGIN SELECT RAISE(ABORT, 'sites stay'); END",
    "INSERT INTO usage_offsets (partition, epoch, last_id, updated_at) VALUES (0, 'an-epoch', '1700000000000-7', 1)",
)

NOTICED_BY: Final = {
    "sqlite.drop-a-row": "sqlite.content",
    "sqlite.add-a-row": "sqlite.content",
    "sqlite.empty-a-table": "sqlite.content",
    "sqlite.drop-a-table": "sqlite.schema",
    "sqlite.change-one-byte-of-a-text": "sqlite.content",
    "sqlite.change-an-integer": "sqlite.content",
    "sqlite.change-a-real": "sqlite.content",
    "sqlite.swap-two-values": "sqlite.content",
    "sqlite.overwrite-a-row-by-another": "sqlite.content",
    "sqlite.drop-an-index": "sqlite.schema",
    "sqlite.drop-a-trigger": "sqlite.schema",
    "sqlite.drop-a-view": "sqlite.schema",
    "sqlite.swap-two-indexes": "sqlite.integrity",
    "sqlite.break-a-foreign-key": "sqlite.foreign-keys",
    "sqlite.change-the-migration-head": "sqlite.migration-head",
    "sqlite.move-a-log-position": "sqlite.log-positions",
    "sqlite.move-the-newest-instant": "sqlite.newest",
    "sqlite.flip-a-bit-of-the-file": "sqlite.file",
    "sqlite.garble-a-page": "sqlite.integrity",
    "sqlite.truncate-the-file": "sqlite.file",
    "sqlite.make-the-file-empty": "sqlite.file",
    "sqlite.lose-the-file": "sqlite.file",
    "sqlite.a-log-beside-the-file": "sqlite.alone",
    "sqlite.older-point": "sqlite.content",
    "chain.flip-a-bit-of-the-manifest": "chain.manifest",
    "chain.flip-a-bit-of-the-full": "chain.members",
    "chain.truncate-the-full": "chain.members",
    "chain.leave-out-the-full": "chain.lineage",
    "chain.flip-a-bit-of-a-delta": "chain.members",
    "chain.truncate-a-delta": "chain.members",
    "chain.lose-a-delta": "chain.members",
    "chain.delta-of-another-chain": "chain.lineage",
    "chain.leave-out-a-delta": "chain.lineage",
    "chain.reorder-two-deltas": "chain.lineage",
    "chain.exchange-the-files-of-two-deltas": "chain.members",
    "chain.flip-a-bit-and-its-hash": "chain.assembly",
    "chain.exchange-two-deltas-and-their-hashes": "chain.assembly",
    "chain.leave-out-a-delta-and-close-the-gap": "chain.assembly",
    "vault.flip-a-bit-of-a-pack": "vault.data",
    "vault.flip-a-bit-of-the-manifest": "vault.data",
    "vault.truncate-a-pack": "vault.data",
    "vault.lose-a-pack": "vault.data",
    "vault.lose-the-index": "vault.data",
    "vault.lose-the-snapshot": "vault.data",
    "key.another-password": "key.refused",
    "key.one-bit-off": "key.refused",
}
"""Who must notice each, whatever the point and so the place of the damage; others may notice it too."""

BY_THE_BYTES_ALONE: Final = frozenset({"sqlite.flip-a-bit-of-the-file", "sqlite.lose-the-file"})
"""What may change nothing that a reader of rows sees, as on a page that is free; or leaves nothing to read."""


@pytest.fixture
def point(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Set:
    """Give the second increment on a full, restored."""
    crew = Crew(sqlite_engine, redis_server.client(), tmp_path, seed)
    with begin_write(sqlite_engine) as connection:
        for statement in MORE:
            connection.execute(sa.text(statement))
        for number in range(50):
            site = {"id": number, "name": f"site {number}", "height": number / 7, "at": 1_700_000_000_000_000 + number}
            connection.execute(sa.text("INSERT INTO sites VALUES (:id, :name, :height, :at)"), site)
            visit = {"id": number, "site": number % 9, "said": f"visit {number % 4}"}
            connection.execute(sa.text("INSERT INTO visits VALUES (:id, :site, :said)"), visit)
    crew.full()
    for _ in range(2):
        crew.change_some()
        newest = crew.incremental()
    return restored_set(crew, newest["point"])


def examiners_of(point: Set) -> list[Examiner]:
    sqlite = SqliteExaminer()
    vault = point.opened.vault
    return [
        sqlite,
        ChainExaminer(assembler=point.assembler, examiners=[sqlite]),
        VaultExaminer(vault=vault, program="restic"),
        KeyExaminer(place=vault.place, program="restic"),
    ]


def without(results: Sequence[MutantResult], check: str) -> list[MutantResult]:
    """Give what would have been noticed if nobody had made a check."""
    return [
        MutantResult(
            name=one.name, artefact=one.artefact, noticed_by=[name for name in one.noticed_by if name != check]
        )
        for one in results
    ]


def test_every_mutant_is_noticed_by_who_must(point: Set) -> None:
    """All of them can be made and are rejected; each check has mutants; without it, its own would go unnoticed."""
    examiners = examiners_of(point)
    checks = [check for examiner in examiners for check in examiner.examine(point.subject, silent)]
    assert not [check for check in checks if check.differences or check.unable]
    results = [result for examiner in examiners for result in tried(examiner, point.subject)]
    print(f"\n{table_of(results)}\n{kill_rate(results)} rejected")  # noqa: T201  for whoever runs it with -s
    assert not [one.name for one in results if one.not_possible]
    assert {one.name for one in results} == NOTICED_BY.keys()
    assert [one.name for one in results if NOTICED_BY[one.name] not in one.noticed_by] == []
    assert judge(checks, results).verdict is Verdict.PASS
    assert [*point.subject.scratch.iterdir()] == []
    assert all(check in NOTICED_BY.values() for check in {check.name for check in checks if check.is_equal})
    for check in set(NOTICED_BY.values()):
        alone = {one.name for one in results if set(one.noticed_by) == {check}}
        assert set(kill_rate(without(results, check)).survivors) == alone
        expected = Verdict.INCONCLUSIVE if alone else Verdict.PASS
        assert judge(checks, without(results, check)).verdict is expected
    alone_by_bytes = kill_rate(without(results, "sqlite.file")).survivors
    assert {"sqlite.lose-the-file"} <= {*alone_by_bytes} <= BY_THE_BYTES_ALONE, "the rows have walls of their own"
