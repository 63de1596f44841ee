"""Restored dumps of Redis servers, each loaded by a server of our own and compared with the manifest for equality.

redis.<name>.file      every byte of the dump, by its SHA-256
redis.<name>.load      a server reads it from end to end
redis.<name>.keys      keys, and keys with a time to live, of each database
redis.<name>.types     how many keys there are of each type
redis.<name>.digest    everything in it, as the same program digests it; of another program's, the file speaks
redis.broker.log       every partition of the usage log goes on where the database of the same point stops

The last one is no equality: the dump may be exactly what was captured, and the log have been wiped before that. Such a
point is what it was, and a replay after its restore would not be exact. So it is told as something to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nightcrew import wire
from tasks.backups.drills.verdicts import Check
from tasks.backups.quarantine import DIRECTORY
from tasks.backups.store.drills.redis_mutants import mutants_of
from tasks.backups.store.hashing import DamagedMemberError, check_member
from tasks.backups.store.private_redis import read_expectations
from tasks.backups.store.rdb_files import RdbDamagedError, RdbForeignError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import redis

    from tasks.backups.drills.subjects import Mutant, Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.manifest import LogPosition, Manifest, Redis, RedisDatabase
    from tasks.backups.staging import Progress
    from tasks.backups.store.private_redis import PrivateRedis

_MOST_SAID: Final = 10
_NOTHING: Final = "0-0"


class RedisExaminer:
    """Looks at the restored dumps of Redis servers."""

    artefact: Artefact = "redis"

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Load each dump, and compare what is in it."""
        checks: list[Check] = []
        for server in subject.manifest.redis:
            dump = subject.restored / DIRECTORY / f"{server.name}.rdb"
            checks += _Examination(dump=dump, server=server, subject=subject, progress=progress).checks()
        return checks

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage a dump."""
        return [
            mutant
            for server in subject.manifest.redis
            for mutant in mutants_of(subject, server, self.examine, progress)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogSight:
    """What a dump says of a partition of the usage log."""

    epoch: str
    last_id: str
    """Newest id that it has ever given."""
    forgotten_id: str


@dataclass(slots=True, kw_only=True)
class _Examination:
    dump: Path
    server: Redis
    subject: Subject
    progress: Progress
    _log: dict[int, _LogSight] = field(default_factory=dict)

    def checks(self) -> list[Check]:
        if not self.dump.is_file() or self.dump.is_symlink():
            return [self._check("file", 1, ["there is no dump"], unit="files")]
        file = self._file()
        try:
            found = read_expectations(
                self.dump,
                name=self.server.name,
                member=self.server.member,
                limits=self.subject.limits,
                progress=self.progress,
                look=self._look,
            )
        except RdbDamagedError as error:
            return [file, self._check("load", 1, [str(error)], unit="files")]
        except RdbForeignError as error:
            # Of the right bytes it says something of the programs here, of others that they are no dump any more.
            said = [str(error)] if file.differences else []
            return [file, self._check("load", len(said), said, unit="files", unable="" if said else str(error))]
        return [file, self._check("load", 1, unit="files"), *self._contents(found), *self._log_check()]

    def _file(self) -> Check:
        member = self.subject.manifest.member(self.server.member)
        try:
            check_member(self.dump, member, tick=lambda done: self.progress("hash dump", done, member.size_bytes))
        except DamagedMemberError as error:
            return self._check("file", 1, [str(error)], unit="files")
        return self._check("file", member.size_bytes, unit="bytes")

    def _contents(self, found: Redis) -> list[Check]:
        now, then = ({one.number: one for one in which.databases} for which in (found, self.server))
        keys = sum(one.keys for one in found.databases)
        is_comparable = found.digest_by == self.server.digest_by
        digest = [] if found.digest == self.server.digest else ["something in it is not what it was"]
        return [
            self._check("keys", keys, _unequal(now, then, ("keys", "expires")), unit="keys"),
            self._check("types", keys, _unequal(now, then, ("types",)), unit="keys"),
            self._check("digest", keys if is_comparable else 0, digest if is_comparable else [], unit="keys"),
        ]

    def _log_check(self) -> list[Check]:
        """Compare where the database stops with where the log goes on; the dump of a cache has no log."""
        positions = _applied(self.subject.manifest)
        if self.server.name != "broker" or not positions:
            return []
        gaps = [gap for position in positions if (gap := _gap(position, self._log[position.partition]))]
        unable = f"a replay after the restore would not be exact: {gaps[0]}" if gaps else ""
        return [self._check("log", 0 if gaps else len(positions), unit="partitions", unable=unable)]

    def _look(self, server: PrivateRedis) -> None:
        if self.server.name != "broker":
            return
        with server.client() as client:
            self._log = {one.partition: _log_of(client, one.partition) for one in _applied(self.subject.manifest)}

    def _check(
        self, name: str, examined: int, differences: Sequence[str] = (), *, unit: str, unable: str = ""
    ) -> Check:
        return Check(
            name=f"redis.{self.server.name}.{name}",
            artefact="redis",
            examined=examined,
            unit=unit,
            differences=tuple(differences[:_MOST_SAID]),
            unable=unable,
        )


def _unequal(now: dict[int, RedisDatabase], then: dict[int, RedisDatabase], facts: Sequence[str]) -> list[str]:
    said = []
    for number in sorted(now.keys() | then.keys()):
        for fact in facts:
            here, there = (getattr(which.get(number), fact, None) for which in (now, then))
            if here != there:
                said.append(f"database {number}: {fact} {here} instead of {there}")
    return said


def _applied(manifest: Manifest) -> list[LogPosition]:
    """Give the positions of partitions of which something is in the database."""
    return [position for position in manifest.log_positions if position.epoch and position.last_id != _NOTHING]


def _log_of(client: redis.Redis, partition: int) -> _LogSight:
    epoch, forgotten = client.hmget(wire.USAGE_META, ["epoch", f"forgotten:{partition}"])
    last: Any = _NOTHING
    if client.exists(stream := wire.usage_stream(partition)):
        last = client.xinfo_stream(stream)["last-generated-id"]
    return _LogSight(epoch=_text(epoch), last_id=_text(last), forgotten_id=_text(forgotten) or _NOTHING)


def _gap(position: LogPosition, log: _LogSight) -> str:
    """Say why a replay cannot go on from a position; empty: it can."""
    where = f"partition {position.partition}"
    if log.epoch != position.epoch:
        return f"{where}: the log of the dump is another one than that of the database"
    if _order(log.last_id) < _order(position.last_id):
        return f"{where}: the log of the dump ends at {log.last_id}, the database has it up to {position.last_id}"
    if _order(log.forgotten_id) > _order(position.last_id):
        return f"{where}: the log of the dump begins after {log.forgotten_id}, the database stops at {position.last_id}"
    return ""


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
