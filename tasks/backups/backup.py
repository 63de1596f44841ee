"""One run of a backup, from capture to record.

    open the vault · bring the mirror in line · decide the kind · capture into a stage · store · check · record

Whatever is interrupted leaves either nothing, or a whole snapshot that nobody wrote down: the next attempt of the run
adopts that and goes on behind it. The record and the success of the run are one transaction, so that a worker that
lost its lease meanwhile records nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from tasks.backups.adoption import Mirror, open_vault, point_of
from tasks.backups.composing import Captured, compose_manifest
from tasks.backups.manifest import UnreadableManifestError
from tasks.backups.points import PointState
from tasks.backups.promotion import Decision, Situation, confirm, decide_kind
from tasks.backups.staging import Limits, ParentPoint, Stage
from tasks.backups.storage import Check, Measure
from tasks.backups.vaults import Tags, VaultDamagedError
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from tasks.backups.adoption import Judge, Manifests, Synced
    from tasks.backups.forecast import MeasuredRestore
    from tasks.backups.manifest import Manifest, Part
    from tasks.backups.phases import Phases
    from tasks.backups.points import Kind, RestorePoint
    from tasks.backups.promotion import Source
    from tasks.backups.staging import DatabaseCapture, FilesCapture, RedisCapture
    from tasks.backups.vaults import Snapshot, Stored, Vault
    from tasks.runtime import BackupOptions

PHASES: Final = {
    "open vault": 3.0,
    "capture database": 45.0,
    "capture redis": 5.0,
    "capture files": 1.0,
    "store": 35.0,
    "check vault": 10.0,
    "record": 1.0,
}
"""In their order, each with its guessed part of the whole."""

_POINT_DIGITS: Final = 12

_log = structlog.get_logger(__name__)


class Sources(Protocol):
    """What is captured. Each method raises PermanentError where a source is missing, empty or refuses to be read."""

    def describe(self) -> Source:
        """Say which database it is, as far as a delta depends on it."""

    def database(self, stage: Stage, parent: ParentPoint | None) -> DatabaseCapture:
        """Capture the database: what differs from the parent, or, without one, all of it."""

    def redis(self, stage: Stage) -> Sequence[RedisCapture]:
        """Capture the broker, and the cache if it is another server."""

    def files(self, stage: Stage, parts: Collection[Part]) -> FilesCapture:
        """Capture those of `config` and `model` that are asked for."""


class Stages(Protocol):
    """Where stages are."""

    def clear(self) -> None:
        """Remove what attempts have left that died: nobody else is at work while the caller has the lease."""

    def opened(self, name: str) -> AbstractContextManager[Path]:
        """Give a new, empty, private directory, and remove it after the block, whatever happens there."""

    def seal(self, stage: Path, manifest: Manifest) -> Mapping[str, int]:
        """Write the manifest into the stage, and see that nothing but it and the members is there.

        Give the bytes of each file by name.
        """


class Members(Protocol):
    """Where the members that deltas are made against are found again."""

    def fetcher(self, parent: Found, stage: Stage) -> Callable[[str], Path]:
        """Say how a member of a point is fetched by its name."""

    def keep(self, manifest: Manifest, stage: Path, points: Sequence[RestorePoint]) -> None:
        """Keep those members of a new point that its children need, and of `points` only what may be needed."""


class Book(Mirror, Protocol):
    """The tables, as a backup needs them."""

    def note_check(self, check: Check) -> None:
        """Write down what a check of the vault has found."""

    def record(self, taken: Taken, measure: Measure, result: Mapping[str, Any]) -> None:
        """Write down the point, the size of the vault, and the success of the run with its result: all or nothing.

        Raises:
            LeaseLostError: another worker may hold the run by now; nothing was written.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be taken, and for whom."""

    run_id: str
    fence: int
    profile: str
    parts: frozenset[Part]
    kind: Kind

    @property
    def point(self) -> str:
        """Name the point: the same for each attempt of the run."""
        return self.run_id.replace("-", "")[-_POINT_DIGITS:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A point with all that is needed to fetch of it."""

    manifest: Manifest
    snapshot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A point that the vault has, to be written down."""

    point: RestorePoint
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """Takes restore points."""

    vault: Vault
    manifests: Manifests
    book: Book
    sources: Sources
    stages: Stages
    members: Members
    judge: Judge
    options: BackupOptions
    clock: Callable[[], datetime]
    phases: Phases
    tools: Mapping[str, str]
    """Versions of what is at work, by name."""
    measured: Sequence[MeasuredRestore] = ()
    """Restores of the profile, the newest first: what the forecast of the next one goes by."""

    def take(self, order: Order) -> dict[str, Any]:
        """Take a point, or adopt the one that an earlier attempt of the run has stored; give what is to be told.

        Raises:
            TransientError: the vault, a source or the database was in the way; the next attempt may succeed.
            PermanentError: it cannot succeed as things stand; the text says what to do.
            LeaseLostError: another worker may be at it; nothing of this attempt is recorded.
            CancelledError: somebody called the run off.
        """
        if not order.parts:
            msg = f"the profile {order.profile} takes nothing: name at least one part for it in backups.profiles"
            raise PermanentError(msg)
        with self.phases.phase("open vault"):
            self.stages.clear()
            synced = open_vault(self.vault, self.manifests, self.book, self.judge, progress=self.phases)
        earlier = _stored_by(order, synced)
        if earlier is not None and (adopted := self._adopted(order, earlier)) is not None:
            _log.info("backups.adopted", point=adopted.point.id, reason="an earlier attempt of the run has stored it")
            return self._finish(order, adopted, synced)
        return self._take(order, synced)

    def _adopted(self, order: Order, snapshot: Snapshot) -> Taken | None:
        """Give what an earlier attempt has stored, unless it was found not to be whole."""
        for point in self.book.points():
            if point.id == order.point and point.snapshot_id == snapshot.id:
                return Taken(point=point, run_id=order.run_id)
        return None

    def _take(self, order: Order, synced: Synced) -> dict[str, Any]:
        points = self.book.points()
        decision, parent = self._decide(order, points, synced)
        with self.stages.opened(f"{order.run_id}.{order.fence}") as directory:
            limits = Limits(
                nice=self.options.nice,
                idle_io=self.options.idle_io,
                upload_kib_s=self.options.upload_kib_s,
                download_kib_s=self.options.download_kib_s,
            )
            stage = Stage(directory=directory, progress=self.phases, limits=limits)
            began_at = self.clock()
            captured = self._capture(order, stage, parent)
            manifest = compose_manifest(order, decision, captured, began_at=began_at, tools=self.tools)
            stored = self._store(order, manifest, stage)
            self.members.keep(manifest, directory, points)
        point = point_of(manifest, stored.snapshot, added_bytes=stored.added_bytes)
        judged = self.judge(point, points)
        if judged.state is PointState.SUSPECT:
            _log.warning("backups.point_suspected", point=point.id, reason=judged.state_reason)
        return self._finish(order, Taken(point=judged, run_id=order.run_id), synced)

    def _decide(self, order: Order, points: Sequence[RestorePoint], synced: Synced) -> tuple[Decision, Found | None]:
        if "database" not in order.parts:
            return Decision(kind="full", parent=None, reason="the profile takes no database"), None
        situation = Situation(
            profile=order.profile,
            points=points,
            stored={snapshot.tags.point for snapshot in synced.snapshots},
            options=self.options,
            now=self.clock(),
            measured=self.measured,
        )
        decision = decide_kind(order.kind, situation)
        if decision.warning:
            _log.warning("backups.forecast_over_target", reason=decision.warning)
        if decision.parent is None:
            return decision, None
        return self._confirm(decision, decision.parent, synced)

    def _confirm(self, decision: Decision, parent: RestorePoint, synced: Synced) -> tuple[Decision, Found | None]:
        snapshot = next((one for one in synced.snapshots if one.id == parent.snapshot_id), None)
        if snapshot is None:
            return decision.promoted(f"the parent {parent.id} is not in the vault"), None
        try:
            manifest = self.manifests.read(snapshot)
        except (UnreadableManifestError, VaultDamagedError) as error:
            return decision.promoted(f"the parent {parent.id}: {error}"), None
        confirmed = confirm(decision, manifest, self.sources.describe())
        found = Found(manifest=manifest, snapshot_id=snapshot.id)
        return confirmed, None if confirmed.parent is None else found

    def _capture(self, order: Order, stage: Stage, parent: Found | None) -> Captured:
        database = self._capture_database(stage, parent) if "database" in order.parts else None
        redis: Sequence[RedisCapture] = ()
        files: FilesCapture | None = None
        if "redis" in order.parts:
            with self.phases.phase("capture redis"):
                redis = self.sources.redis(stage)
        if plain := order.parts & {"config", "model"}:
            with self.phases.phase("capture files"):
                files = self.sources.files(stage, plain)
        return Captured(database=database, redis=redis, files=files, taken_at=self.clock())

    def _capture_database(self, stage: Stage, parent: Found | None) -> DatabaseCapture:
        with self.phases.phase("capture database"):
            if parent is None:
                return self.sources.database(stage, None)
            against = ParentPoint(manifest=parent.manifest, fetch=self.members.fetcher(parent, stage))
            return self.sources.database(stage, against)

    def _store(self, order: Order, manifest: Manifest, stage: Stage) -> Stored:
        tags = Tags(
            point=manifest.point,
            run=order.run_id,
            profile=manifest.profile,
            kind=manifest.kind,
            chain=manifest.chain,
            sequence=manifest.sequence,
        )
        sizes = self.stages.seal(stage.directory, manifest)
        with self.phases.phase("store"):
            stored = self.vault.put(stage.directory, tags=tags, sizes=sizes, progress=self.phases)
        _log.info("backups.stored", point=manifest.point, kind=manifest.kind, added_bytes=stored.added_bytes)
        return stored

    def _finish(self, order: Order, taken: Taken, synced: Synced) -> dict[str, Any]:
        """Check the vault, and record the point if it is sound."""
        with self.phases.phase("check vault"):
            self._check_vault()
        with self.phases.phase("record"):
            measure = self._measure(taken.point)
            result = _result(order, taken.point, self.phases.seconds, synced)
            self.book.record(taken, measure, result)
        return result

    def _check_vault(self) -> None:
        now = self.clock()
        try:
            self.vault.check(progress=self.phases)
        except VaultDamagedError as error:
            self.book.note_check(Check(checked_at=now, slice=None, slices=None, is_sound=False, detail=str(error)))
            raise
        self.book.note_check(Check(checked_at=now, slice=None, slices=None, is_sound=True))

    def _measure(self, taken: RestorePoint) -> Measure:
        size = self.vault.size()
        points = {**{point.id: point for point in self.book.points()}, taken.id: taken}.values()
        return Measure(
            measured_at=self.clock(),
            points=len(points),
            stored_bytes=size.stored_bytes,
            staged_bytes=sum(point.staged_bytes for point in points),
            size_bytes=sum(point.size_bytes for point in points),
            free_bytes=size.free_bytes,
        )


def _stored_by(order: Order, synced: Synced) -> Snapshot | None:
    mine = [snapshot for snapshot in synced.snapshots if snapshot.tags.run == order.run_id]
    return max(mine, key=lambda snapshot: (snapshot.stored_at, snapshot.id), default=None)


def _result(order: Order, point: RestorePoint, seconds: Mapping[str, float], synced: Synced) -> dict[str, Any]:
    others = {key: value for key, value in synced.to_json().items() if value != [order.point]}
    return {
        "point": point.id,
        "profile": point.profile,
        "kind": point.kind,
        "asked": order.kind,
        "reason": point.reason,
        "chain": point.chain,
        "sequence": point.sequence,
        "state": point.state.value,
        "state_reason": point.state_reason,
        "is_unchanged": point.is_unchanged,
        "taken_at": point.taken_at.isoformat(),
        "bytes": {"size": point.size_bytes, "staged": point.staged_bytes, "added": point.added_bytes},
        "rows": point.rows,
        "seconds": dict(seconds),
        **({"vault": others} if others else {}),
    }
