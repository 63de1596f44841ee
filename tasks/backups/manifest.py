"""What a restore point must be when it is restored: written into its own snapshot, at the moment it was captured.

A restore is compared with this for equality, and with nothing else: the source may have changed, or be gone. Lineage
is in it too, so that a vault alone tells what it holds and what rests on what.

Versions: a reader takes its own and every older one, and refuses a newer one. Unknown fields are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tasks.backups.points import Kind  # noqa: TC001  pydantic reads the annotations at run time
from tasks.errors import PermanentError

VERSION: Final = 1
FILE_NAME: Final = "manifest.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0)]
Part = Literal["database", "redis", "config", "model"]

# No member name can lead out of the directory that it is restored to.
MemberName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,99})*$")]


class UnreadableManifestError(PermanentError):
    """The manifest of a point is not one, or is of a newer release."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Member(_Value):
    """A file of the snapshot, beside the manifest."""

    name: MemberName
    """With slashes, relative to the snapshot."""
    part: Part
    size_bytes: Bytes
    sha256: Sha256


class Table(_Value):
    """What a table held."""

    name: str
    rows: Annotated[int, Field(ge=0)]
    fingerprint: str | None = None
    """Of the content, whatever the order of the rows; None where `Database.unread` says why."""
    newest: dict[str, str] = {}
    """Largest value of each column of the primary key that is one, and of each column of instants, as text."""
    orphans: Annotated[int, Field(ge=0)] | None = None
    """Rows whose foreign key points nowhere; None where `Database.unread` says why."""


class Database(_Value):
    """What the database was."""

    engine: Literal["sqlite", "postgresql"]
    server_version: str
    method: Literal["copy", "page-delta", "dump", "base-backup", "incremental-base-backup", "wal"]
    """How the members were made, which is how they are put together again."""
    schema_sha256: Sha256
    """Of the definitions of all tables, indexes and triggers, in the order of their names."""
    migration_head: str | None
    """Revision of the last migration; None for a database that is not ours."""
    tables: tuple[Table, ...]
    unread: str = ""
    """Why content was not read row by row: its equality then rests on the hashes of its pages."""
    newest_commit_at: AwareDatetime | None = None
    """Newest instant that stands in any table: what the measured RPO of a restore starts from."""
    file_sha256: Sha256 | None = None
    """SQLite: of the whole restored file."""
    file_bytes: Bytes | None = None
    """SQLite: of the whole restored file. PostgreSQL: what the restored database takes, about."""
    changed_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the pages that differ from the parent's, for a delta."""
    details: dict[str, Any] = {}
    """What the engine needs to put it together: page size, positions in the WAL, the timeline."""


class RedisDatabase(_Value):
    """One numbered database of a Redis server, as a replica shows it: keys past their time included."""

    number: Annotated[int, Field(ge=0)]
    keys: Annotated[int, Field(ge=0)]
    expires: Annotated[int, Field(ge=0)]
    """Keys with a time to live."""
    types: dict[str, int]
    """Number of keys without a time to live, by type."""


class Redis(_Value):
    """What a Redis server held."""

    name: Literal["broker", "cache"]
    member: MemberName
    server_version: str
    databases: tuple[RedisDatabase, ...]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """`DEBUG DIGEST` of a server that has loaded the file and expired nothing."""
    digest_by: str = ""
    """Program and version that worked it out: others write fractions another way, and come to another digest."""


class ConfigFile(_Value):
    """A file that was taken as it is."""

    member: MemberName
    part: Literal["config", "model"]
    origin: str
    """Where it stood, for people; a restore never writes there."""
    mode: Annotated[int, Field(ge=0, le=0o7777)]


class LogPosition(_Value):
    """Up to where the captured database contains a partition of the usage log."""

    partition: Annotated[int, Field(ge=0)]
    epoch: str
    last_id: str


class Manifest(_Value):
    """Everything that is known of a restore point from the moment it was taken."""

    version: Literal[1] = VERSION
    point: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    run: str
    """Id of the run of the ledger that took it."""
    profile: str
    kind: Kind
    chain: str
    sequence: Annotated[int, Field(ge=0)]
    parent: str | None
    reason: str
    taken_at: AwareDatetime
    began_at: AwareDatetime
    """When the run began to capture."""
    tools: dict[str, str]
    """Versions of what made it: `nightcrew`, `engine`, `python`, `sqlite`, `pg_dump`, …"""
    members: tuple[Member, ...]
    database: Database | None = None
    redis: tuple[Redis, ...] = ()
    files: tuple[ConfigFile, ...] = ()
    log_positions: tuple[LogPosition, ...] = ()
    is_unchanged: bool = False
    size_bytes: Bytes
    """What a restore writes, all parts together."""

    def to_json(self) -> bytes:
        """Give the file, the same bytes for the same manifest."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read the file.

        Raises:
            UnreadableManifestError: it is no manifest, or is of a newer release.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            msg = f"the manifest cannot be read: {where}: {first['msg']}; a newer release may have written it"
            raise UnreadableManifestError(msg) from None

    def member(self, name: str) -> Member:
        """Find a member.

        Raises:
            KeyError: there is none of this name.
        """
        for member in self.members:
            if member.name == name:
                return member
        raise KeyError(name)
