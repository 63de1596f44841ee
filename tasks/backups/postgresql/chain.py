"""Whether an increment may rest on a point, and what a point has to remember for the next one and for its restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.backups.postgresql.abilities import Way  # noqa: TC001  pydantic reads the annotations at run time
from tasks.backups.postgresql.positions import parse_position
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from tasks.backups.manifest import Database
    from tasks.backups.postgresql.abilities import Ability, Server

DUMP: Final = "database/dump.pgc.zst"
"""`pg_dump --format=custom` without compression of its own; `zstd -d`, then `pg_restore`."""
BASE: Final = "database/base.tar.zst"
"""A data directory, or what has changed in it since the parent's."""
BACKUP_MANIFEST: Final = "database/backup_manifest.zst"
"""PostgreSQL's own list of the files of the base backup: what the next increment is taken against."""
WAL: Final = "database/wal.tar.zst"
"""Segments of the write-ahead log up to the moment of the point, which lies within the last one."""

_POSITION: Final = r"^[0-9A-F]{1,8}/[0-9A-F]{1,8}$"


class Anchor(BaseModel):
    """Where a point that has files of the server lies in the server's history; `Database.details` in the manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    way: Way
    system: str
    timeline: int = Field(ge=1)
    segment_bytes: int = Field(gt=0)
    major: int
    database: str
    role: str
    until: str = Field(pattern=_POSITION)
    """A replay of the log stops before the first record from here on: exactly what the snapshot saw is then there."""
    marked: str = Field(pattern=_POSITION)
    """End of the record that we wrote there; a replay that has less of the log cannot know that it is through."""


def anchor_of(database: Database | None) -> Anchor | None:
    """Give where a point lies; None for one that is a dump alone.

    Raises:
        PermanentError: the manifest was written by a newer release.
    """
    if database is None or "way" not in database.details:
        return None
    try:
        return Anchor.model_validate(database.details)
    except ValidationError as error:
        msg = f"the manifest does not say where the point lies in the log: {error.errors()[0]['msg']}"
        raise PermanentError(msg) from None


def why_not_on(parent: Database | None, server: Server, ability: Ability) -> str:
    """Say why no increment of this server may rest on the parent; empty if one may."""
    if ability.way is None:
        return ability.reason
    if parent is None or parent.engine != "postgresql":
        return "the parent has no database of PostgreSQL"
    anchor = anchor_of(parent)
    if anchor is None:
        return "the parent is a dump alone: no increment can rest on it"
    return _broken(anchor, server, ability)


def _broken(anchor: Anchor, server: Server, ability: Ability) -> str:
    """Say in what the history of the server has left the parent behind."""
    if anchor.system != server.system:
        return "the database server is another one than the parent's"
    if anchor.timeline != server.timeline:
        return f"the server is on timeline {server.timeline}, the parent on {anchor.timeline}: it was promoted"
    if (anchor.major, anchor.database) != (server.major, server.database):
        return "version or database are not the parent's"
    if anchor.way != ability.way:
        return f"the chain goes by {anchor.way}, and now increments are taken by {ability.way}"
    if parse_position(anchor.marked) > parse_position(server.position):
        return "the server's log ends before the parent: it has been set back"
    return ""
