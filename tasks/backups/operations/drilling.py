"""Drilling a point: the real vault, sandbox, examiners and tables meet here."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.adoption import newest_of_each
from tasks.backups.drills import drill as drills
from tasks.backups.drills.drill import (
    DrillFailedError,
    DrillInconclusiveError,
    DrillOrder,
    DrillRun,
    NotAsStoredError,
    Restored,
)
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.operations.cold import ColdRestorer
from tasks.backups.operations.examiners import examiners_for
from tasks.backups.operations.listing import list_points
from tasks.backups.operations.sources import CrewAssembler
from tasks.backups.operations.vaults import backup_options, limits_of, vault_of
from tasks.backups.pages.patching import UnusableDeltaError, WrongResultError
from tasks.backups.pages.whole import UnreadableFileError
from tasks.backups.phases import Phases
from tasks.backups.restoring import Restore, RestoreOrder
from tasks.backups.staging import Link
from tasks.backups.store.captures.postgresql.restoring import NotEqualError
from tasks.backups.store.captures.sqlite_restoring import BrokenChainError
from tasks.backups.store.drills import book, sandbox
from tasks.backups.store.drills.live import live_places
from tasks.backups.store.hashing import DamagedMemberError
from tasks.backups.store.rdb_files import RdbDamagedError
from tasks.backups.store.targets import RestoreTargets
from tasks.backups.vaults import VaultDamagedError
from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from nightcrew.messages import DrillRestore
    from tasks.backups.drills.drill import Restorer, Room
    from tasks.backups.drills.records import Drill, Way
    from tasks.backups.operations.vaults import OpenVault
    from tasks.backups.phases import Teller
    from tasks.backups.points import RestorePoint
    from tasks.runtime import Runtime

_DIFFERENT: Final = (
    DamagedMemberError,
    BrokenChainError,
    UnusableDeltaError,
    WrongResultError,
    UnreadableFileError,
    NotEqualError,
    RdbDamagedError,
    VaultDamagedError,
)
"""What a restore raises where something is not what was stored; any other error says nothing of the point."""

_FETCHING: Final = ("find point", "fetch", "compare hashes")
_WHOLE_ID: Final = re.compile(r"[0-9a-f]{12}")
_TRIES_UNTIL_THERE: Final = 3
"""A full asks for its drill before it is written down: it may be that the drill comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultRestorer:
    """Restores points from an open vault. See `tasks.backups.drills.drill.Restorer` for what it promises."""

    opened: OpenVault
    assembler: CrewAssembler
    clock: Callable[[], datetime]

    def restore(self, point: RestorePoint, room: Room, phases: Phases) -> Restored:
        """Restore a point into a room, and keep the members that were fetched for it."""
        shelf = _Keeper(room.fetched)
        restore = Restore(
            shelf=self.opened.vault,
            manifests=self.opened.manifests,
            assembler=self.assembler,
            targets=RestoreTargets(),
            clock=self.clock,
            phases=phases,
            keep=shelf.keep,
        )
        before_s, began_s = _fetching_s(phases), time.monotonic()
        try:
            restore.run(RestoreOrder(point=point.id, to=room.restored))
        except _DIFFERENT as error:
            raise NotAsStoredError(str(error)) from error
        whole_s, fetch_s = time.monotonic() - began_s, _fetching_s(phases) - before_s
        return Restored(
            manifest=shelf.links[-1].manifest,
            links=shelf.links,
            fetch_s=fetch_s,
            apply_s=max(whole_s - fetch_s, 0.0),
        )

    def is_there(self, point: RestorePoint) -> bool:
        """Say whether the vault still has the point."""
        return any(one.tags.point == point.id for one in newest_of_each(self.opened.vault.list()))


@dataclass(slots=True)
class _Keeper:
    """Keeps what was fetched by hard links: a restore moves its files, and removes them in the end."""

    directory: Path
    links: list[Link] = field(default_factory=list)

    def keep(self, fetched: Sequence[Link]) -> None:
        for link in fetched:
            into = self.directory / link.manifest.point
            for source in sorted(path for path in link.directory.rglob("*") if path.is_file()):
                target = into / source.relative_to(link.directory)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.link(source, target)
            self.links.append(Link(manifest=link.manifest, directory=into))


def drill_point(runtime: Runtime, wanted: str | None, *, cold: bool = False, teller: Teller | None = None) -> Drill:
    """Drill a point, or the one whose proof is most due (None), and write down what was found, whatever it is.

    `wanted` is the beginning of an id or a nickname; `teller` hears how far it is.

    Raises:
        TransientError: the vault, the machine or the database was in the way, or another drill is going on.
        PermanentError: this crew takes no backups.
    """
    options = backup_options(runtime)
    way: Way = "cold" if cold else "warm"
    sandbox.sweep_leftovers(options.directory)
    run = run_of(runtime, teller=teller or runtime.attempt, restorer=ColdRestorer(runtime=runtime) if cold else None)
    return run.run(DrillOrder(run_id=runtime.attempt.run_id, wanted=wanted, way=way))


def run_of(runtime: Runtime, *, teller: Teller, restorer: Restorer | None = None) -> DrillRun:
    """Put together what a drill needs; `restorer` restores, if it is not to be done in this process."""
    options = backup_options(runtime)
    limits = limits_of(options)
    return DrillRun(
        restorer=restorer or _LazyRestorer(runtime=runtime),
        examiners=lambda _manifest: examiners_for(runtime),
        rooms=lambda: sandbox.drill_room(
            options.directory,
            live_places(options, runtime.engine, runtime.redis),
            passable=runtime.engine.dialect.name == "postgresql",
        ),
        book=book.SqlDrillBook(runtime.engine, runtime.attempt, note_proven=runtime.note_proven),
        limits=limits,
        clock=runtime.clock,
        phases=Phases(teller, drills.PHASES),
        postgresql_tools=options.postgresql_tools,
    )


def drill_job(runtime: Runtime, message: DrillRestore) -> dict[str, Any]:
    """Do what a message asks for; give what is to be told of a pass.

    Raises:
        DrillFailedError: the point is damaged.
        DrillInconclusiveError: it could not be found out how the point is.
        TransientError: something was in the way.
    """
    _check_written_down(runtime, message.point)
    drill = drill_point(runtime, message.point, cold=message.cold)
    what = f"drill {drill.id} of {drill.point_id or 'no point'}"
    if drill.verdict is Verdict.FAIL:
        found = "the point is damaged" if drill.is_damaged else "the point is what was captured, and that was wrong"
        msg = f"{what} failed, {found}: {drill.reason}"
        raise DrillFailedError(msg)
    if drill.verdict is Verdict.INCONCLUSIVE:
        msg = f"{what} found nothing out: {drill.reason}"
        raise DrillInconclusiveError(msg)
    return drill.to_summary()


def list_drills(
    runtime: Runtime,
    *,
    limit: int | None = None,
    since: datetime | None = None,
    point_id: str | None = None,
    way: Way | None = None,
    verdict: Verdict | None = None,
) -> list[Drill]:
    """List what drills have found, the newest first.

    Raises:
        TransientError: the database is away.
    """
    return book.list_drills(runtime.engine, limit=limit, since=since, point_id=point_id, way=way, verdict=verdict)


def sweep_drills(runtime: Runtime) -> None:
    """Remove what drills have left that were killed; nothing where this crew takes no backups."""
    if runtime.backups is not None:
        sandbox.sweep_leftovers(runtime.backups.directory)


def forget_drills(runtime: Runtime) -> int:
    """Forget what drills have found that long ago that it tells nothing any more; give how many there were."""
    return book.forget_drills(runtime.engine, before=runtime.clock() - backup_options(runtime).keep_drills)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LazyRestorer:
    """Opens the vault when it is needed: where it cannot be opened, that is what the drill has found."""

    runtime: Runtime

    def restore(self, point: RestorePoint, room: Room, phases: Phases) -> Restored:
        return self._restorer().restore(point, room, phases)

    def is_there(self, point: RestorePoint) -> bool:
        return self._restorer().is_there(point)

    def _restorer(self) -> VaultRestorer:
        options = backup_options(self.runtime)
        assembler = CrewAssembler(postgresql_tools=options.postgresql_tools, limits=limits_of(options))
        return VaultRestorer(opened=vault_of(options), assembler=assembler, clock=self.runtime.clock)


def _check_written_down(runtime: Runtime, wanted: str | None) -> None:
    if wanted is None or not _WHOLE_ID.fullmatch(wanted) or runtime.attempt.number > _TRIES_UNTIL_THERE:
        return
    if not any(point.id == wanted for point in list_points(runtime)):
        msg = f"the point {wanted} is not written down yet"
        raise TransientError(msg)


def _fetching_s(phases: Phases) -> float:
    return sum(phases.seconds.get(name, 0.0) for name in _FETCHING)
