"""The manifest of a point, put together from what was captured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tasks.backups.manifest import Manifest
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tasks.backups.manifest import Member
    from tasks.backups.promotion import Decision
    from tasks.backups.staging import DatabaseCapture, FilesCapture, RedisCapture


class Ordered(Protocol):
    """What a manifest says of the order that it was made for."""

    @property
    def run_id(self) -> str:
        """The run of the ledger."""

    @property
    def point(self) -> str:
        """The point."""

    @property
    def profile(self) -> str:
        """What was asked to be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """All parts of a point."""

    database: DatabaseCapture | None
    redis: Sequence[RedisCapture]
    files: FilesCapture | None
    taken_at: datetime
    """Of which moment it is, where there is no database to say so."""

    @property
    def members(self) -> tuple[Member, ...]:
        """Name the files of all parts, in the order of their names."""
        database = self.database.members if self.database else ()
        redis = [member for server in self.redis for member in server.members]
        files = self.files.members if self.files else ()
        return tuple(sorted([*database, *redis, *files], key=lambda member: member.name))

    @property
    def size_bytes(self) -> int:
        """Say what a restore of all parts writes."""
        database = (self.database.expected.file_bytes or 0) if self.database else 0
        return database + sum(server.size_bytes for server in self.redis) + (self.files.size_bytes if self.files else 0)


def compose_manifest(
    order: Ordered, decision: Decision, captured: Captured, *, began_at: datetime, tools: Mapping[str, str]
) -> Manifest:
    """Put the manifest together; a capture that took all although a delta was asked for makes its point a full.

    Raises:
        PermanentError: nothing was captured.
    """
    if not captured.members:
        msg = f"there is nothing to take for the profile {order.profile}: every source that it names is empty"
        raise PermanentError(msg)
    database = captured.database
    if database is not None and decision.parent is not None and not database.is_delta:
        decision = decision.promoted(database.promoted_because or "the capture could not make a delta")
    versions = [part.tools for part in (database, *captured.redis) if part is not None]
    return Manifest(
        point=order.point,
        run=order.run_id,
        profile=order.profile,
        kind=decision.kind,
        chain=decision.chain(order.point),
        sequence=decision.sequence,
        parent=None if decision.parent is None else decision.parent.id,
        reason=decision.reason,
        taken_at=captured.taken_at if database is None else database.taken_at,
        began_at=began_at,
        tools=dict(sorted({key: value for one in [tools, *versions] for key, value in one.items()}.items())),
        members=captured.members,
        database=None if database is None else database.expected,
        redis=tuple(server.expected for server in captured.redis),
        files=() if captured.files is None else tuple(captured.files.expected),
        log_positions=() if database is None else tuple(database.log_positions),
        is_unchanged=database is not None and database.is_unchanged,
        size_bytes=captured.size_bytes,
    )
