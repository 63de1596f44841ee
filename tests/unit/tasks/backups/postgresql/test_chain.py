"""An increment rests on a parent only where the server's history has not left the parent behind."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.backups.postgresql.abilities import judge
from tasks.backups.postgresql.chain import anchor_of, why_not_on
from tasks.errors import PermanentError
from tests.unit.tasks.backups.postgresql.servers import TOOLS_18, database, server


def test_a_parent_of_the_same_history_carries() -> None:
    """Nothing speaks against it: same cluster, timeline, version, database and way, and a log that goes on."""
    assert why_not_on(database(), server(), judge(server(), TOOLS_18)) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"system": "1"}, "another one"),
        ({"timeline": 2}, "it was promoted"),
        ({"version_number": 170000}, "version or database"),
        ({"database": "other"}, "version or database"),
        ({"summarizes_wal": False}, "the chain goes by incremental-base-backup"),
        ({"position": "0/4000050"}, "set back"),
        ({"may_replicate": False}, "has no REPLICATION"),
    ],
)
def test_a_break_in_history_is_named(changes: dict[str, Any], reason: str) -> None:
    """Each way in which a server can leave a parent behind has its words."""
    now = server(**changes)
    tools = dict.fromkeys(TOOLS_18, now.major)
    assert reason in why_not_on(database(), now, judge(now, tools))


def test_a_dump_alone_carries_nothing() -> None:
    """No increment can rest on a dump, nor on a database of another engine."""
    ability = judge(server(), TOOLS_18)
    dump = database().model_copy(update={"details": {"increments": "no REPLICATION"}})
    assert "dump alone" in why_not_on(dump, server(), ability)
    sqlite = database().model_copy(update={"engine": "sqlite"})
    assert "no database of PostgreSQL" in why_not_on(sqlite, server(), ability)
    assert "no database of PostgreSQL" in why_not_on(None, server(), ability)


def test_details_of_a_newer_release_are_refused() -> None:
    """What cannot be read is not guessed."""
    assert anchor_of(None) is None
    assert anchor_of(database()) is not None
    with pytest.raises(PermanentError, match="does not say where the point lies"):
        anchor_of(database(until="soon"))
