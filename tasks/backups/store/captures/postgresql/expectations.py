"""What the tables hold at one moment, so that a restore can be compared with it for equality.

The server adds up the rows: two sums of 64 bits over the halves of the MD5 of each row's text. Sums do not know the
order of the rows, and each row counts as often as it is there. MD5 is no secret keeper here: it tells accidents apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tasks.backups.manifest import Database, LogPosition, Table
from tasks.backups.postgresql.comparing import is_same
from tasks.backups.store.captures.postgresql.catalogue import read_relations, schema_sha256
from tasks.backups.store.captures.postgresql.sessions import patiently, pin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from tasks.backups.store.captures.postgresql.catalogue import Relation

_HALF: Final = 1 << 64
_FORM: Final = "pg1"
_OFFSETS: Final = "usage_offsets"
_REVISION: Final = "alembic_version"


def read_expectations(connection: Connection, *, tick: Callable[[], None] = lambda: None) -> Database:
    """Read a restored database whole, over a connection that is in no transaction, in the order and form of a capture.

    `method` and `details` say how a point was made, which no restored database knows: they are those of a dump.
    """
    connection.execution_options(isolation_level="REPEATABLE READ", no_parameters=True)
    pin(connection)
    with connection.begin():
        return Reading(connection, tick=tick).database()


class Reading:
    """Reads the tables in the transaction that a connection is in."""

    def __init__(self, connection: Connection, *, is_whole: bool = True, tick: Callable[[], None]) -> None:
        """Read content and foreign keys too if it is to be whole; `tick` is a checkpoint."""
        self._connection = connection
        self._is_whole = is_whole
        self._tick = tick
        self.relations = read_relations(connection)
        self.newest_commit_at: datetime | None = None

    def database(self) -> Database:
        """Give what the database holds."""
        row = self._one("SELECT current_setting('server_version'), pg_database_size(current_database()), now()")
        version, size_bytes, began_at = row
        return Database(
            engine="postgresql",
            server_version=version,
            method="dump",
            schema_sha256=schema_sha256(self._connection),
            migration_head=self._migration_head(),
            tables=tuple(self.tables(until=began_at)),
            unread="" if self._is_whole else "the database is large: rows are counted, their content rests on the log",
            newest_commit_at=self.newest_commit_at,
            file_bytes=size_bytes,
        )

    def tables(self, *, until: datetime) -> Iterator[Table]:
        """Read them one after the other, small ones first."""
        for relation in self.relations:
            yield self._table(relation, until)

    def is_what(self, parent: Database) -> bool:
        """Tell whether nothing has changed since the parent; the first difference ends the reading."""
        expected = {table.name: table for table in parent.tables}
        if parent.unread or {relation.name for relation in self.relations} != expected.keys():
            return False
        if (parent.schema_sha256, parent.migration_head) != (schema_sha256(self._connection), self._migration_head()):
            return False
        (now,) = self._one("SELECT now()")
        return all(is_same(expected[table.name], table) for table in self.tables(until=now))

    def log_positions(self) -> list[LogPosition]:
        """Give up to where each partition of the usage log is contained."""
        table = self._find(_OFFSETS)
        if table is None:
            return []
        query = f"SELECT partition, epoch, last_id FROM {table.quoted} ORDER BY partition"  # noqa: S608  quoted
        return [
            LogPosition(partition=partition, epoch=epoch, last_id=last_id)
            for partition, epoch, last_id in self._connection.exec_driver_sql(query)
        ]

    def _migration_head(self) -> str | None:
        table = self._find(_REVISION)
        if table is None:
            return None
        query = f"SELECT min(version_num) FROM {table.quoted}"  # noqa: S608  quoted by the server
        head: str | None = self._connection.exec_driver_sql(query).scalar()
        return head

    def _find(self, bare: str) -> Relation | None:
        found = [relation for relation in self.relations if relation.bare == bare]
        return min(found, key=lambda relation: len(relation.name), default=None)

    def _table(self, relation: Relation, until: datetime) -> Table:
        rows, low, high, newest_at, *newest = self._one(_query(relation, until, is_whole=self._is_whole))
        orphans = None
        if self._is_whole:
            orphans = sum(self._one(query)[0] for query in relation.orphan_queries)
        if newest_at is not None:
            self.newest_commit_at = max(newest_at, self.newest_commit_at or newest_at)
        return Table(
            name=relation.name,
            rows=rows,
            fingerprint=_fingerprint(high, low) if self._is_whole else None,
            newest={column.name: value for column, value in zip(relation.columns, newest, strict=True) if value},
            orphans=orphans,
        )

    def _one(self, query: str) -> Sequence[Any]:
        self._tick()
        return patiently(self._connection, query, self._tick)


def _query(relation: Relation, until: datetime, *, is_whole: bool) -> str:
    """Write the one statement that reads a table once."""
    largest = [f"(max({column.expression}))::text" for column in relation.columns]
    # Some columns hold what is still to come, such as the end of a lease: it is no sign of when something was written.
    past = [
        f"max({column.expression}) FILTER (WHERE {column.expression} <= '{until.isoformat()}')"
        for column in relation.columns
        if column.is_instant
    ]
    newest_at = f"greatest({', '.join(past)})" if past else "NULL::timestamptz"
    if not is_whole:
        return f"SELECT {', '.join(['count(*)', '0', '0', newest_at, *largest])} FROM ONLY {relation.quoted}"  # noqa: S608
    sums = [f"coalesce(sum(('x' || {half}(nightcrew_md5, 16))::bit(64)::bigint), 0)" for half in ("right", "left")]
    # OFFSET 0 keeps the planner from working each hash out twice.
    rows = f"(SELECT *, md5(nightcrew_row::text) nightcrew_md5 FROM ONLY {relation.quoted} nightcrew_row OFFSET 0) r"  # noqa: S608
    return f"SELECT {', '.join(['count(*)', *sums, newest_at, *largest])} FROM {rows}"  # noqa: S608


def _fingerprint(high: Any, low: Any) -> str:
    return f"{_FORM}:{int(high) % _HALF:016x}{int(low) % _HALF:016x}"
