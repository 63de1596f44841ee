"""A restore point back to files, in a directory that did not exist before.

    find the path of parents · fetch what is asked for · compare every hash · put it together · publish by rename

Until the last step everything lies in a directory beside the target whose name says that it is partial, and which is
removed if anything fails. Nothing running is ever touched: where the files go from there is the operator's decision.
The broker's data go to `quarantine/`, because a broker that starts on them delivers old messages again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

import structlog

from tasks.backups.adoption import newest_of_each
from tasks.backups.lineage import Lineage, place_in
from tasks.backups.manifest import Part
from tasks.backups.staging import Link
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from tasks.backups.adoption import Manifests
    from tasks.backups.manifest import Manifest, Member
    from tasks.backups.phases import Phases
    from tasks.backups.staging import Progress
    from tasks.backups.vaults import Snapshot

PHASES: Final = {"find point": 2.0, "fetch": 45.0, "compare hashes": 13.0, "put together": 40.0}
"""In their order, each with its guessed part of the whole."""

_PERMISSIONS: Final = 0o777

PARTS: Final[frozenset[Part]] = frozenset(get_args(Part))

_log = structlog.get_logger(__name__)


class Shelf(Protocol):
    """The vault, as a restore needs it. Every method raises the errors of `Vault`."""

    def list(self) -> Sequence[Snapshot]:
        """Name everything stored by a crew."""

    def get(self, snapshot_id: str, names: Collection[str], to: Path, *, progress: Progress) -> None:
        """Write files of a snapshot into a new directory."""


class Assembler(Protocol):
    """Puts databases and dumps of Redis servers together."""

    def needs(self, path: Sequence[Manifest]) -> Mapping[str, Collection[str]]:
        """Name by point the members that a restore of the last point of a path needs."""

    def assemble(self, links: Sequence[Link], to: Path, progress: Progress) -> Sequence[Path]:
        """Put the database of the last link together in a new directory, checked against its manifest; name it.

        Raises:
            PermanentError: it is not what the manifest says.
        """

    def quarantine(self, link: Link, to: Path, progress: Progress) -> Sequence[Path]:
        """Put the dumps of Redis servers below a directory, where no server finds them by chance; name them.

        Raises:
            PermanentError: one of them is not what the manifest says.
        """


class Target(Protocol):
    """A directory that comes to be in one moment, or never."""

    @property
    def partial(self) -> Path:
        """Where it is put together."""

    @property
    def fetched(self) -> Path:
        """Where its parts lie meanwhile; it does not become part of it."""

    def check(self, directory: Path, member: Member, tick: Callable[[int], None]) -> None:
        """Compare the hash of a fetched member.

        Raises:
            PermanentError: it is not what was stored.
        """

    def place(self, source: Path, name: str, *, mode: int) -> None:
        """Move a fetched file to its place, with these permissions."""

    def publish(self, report: Mapping[str, Any], manifest: Manifest) -> None:
        """Write the report into it beside the manifest, and let it be there.

        Raises:
            PermanentError: something of the name has come to be there meanwhile.
        """


class Targets(Protocol):
    """Makes targets."""

    def opened(self, to: Path, *, needed_bytes: int) -> AbstractContextManager[Target]:
        """Begin a target; what was not published by the end of the block is removed.

        Raises:
            PermanentError: there is something of the name, or it cannot be written.
            TransientError: the disk has less room than is needed.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOrder:
    """What is to be restored, and where to."""

    point: str
    to: Path
    only: frozenset[Part] = PARTS
    """Parts that are asked for; those that the point does not have are left out, unless they are named one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A point on the way to the one that is restored."""

    manifest: Manifest
    snapshot: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Restores points. It needs the vault and no database: that may be what was lost."""

    shelf: Shelf
    manifests: Manifests
    assembler: Assembler
    targets: Targets
    clock: Callable[[], datetime]
    phases: Phases
    keep: Callable[[Sequence[Link]], None] = lambda _links: None
    """Sees the chain as it was fetched, its hashes compared, the full first; what it wants to have later it links."""

    def run(self, order: RestoreOrder) -> dict[str, Any]:
        """Restore a point; give the report that also lies in the directory.

        Raises:
            PermanentError: the point, a part of it or its parents are not there, or something is not what was stored.
            TransientError: the vault was in the way, or the disk is full.
            CancelledError: somebody called it off.
        """
        began_at = self.clock()
        with self.phases.phase("find point"):
            path = path_in(self.shelf.list(), self.manifests, order.point)
        manifest = path[-1].manifest
        parts = _parts(order, manifest)
        wanted = self._choose(path, parts)
        with self.targets.opened(order.to, needed_bytes=_needed_bytes(wanted, manifest, parts)) as target:
            self._fetch(wanted, target)
            self._compare(wanted, target)
            self.keep(_links(wanted, target))
            with self.phases.phase("put together"):
                restored = self._put_together(wanted, parts, target)
            report = _report(order, [stop for stop, _ in wanted], restored, self.phases.seconds)
            report["seconds"]["total"] = (self.clock() - began_at).total_seconds()
            target.publish(report, manifest)
        _log.info("backups.restored", point=order.point, to=str(order.to), seconds=report["seconds"]["total"])
        return report

    def _choose(self, path: Sequence[Stop], parts: frozenset[Part]) -> list[tuple[Stop, Sequence[Member]]]:
        """Choose what is needed of each point: earlier ones only lend their database."""
        manifests = [stop.manifest for stop in path]
        needs = self.assembler.needs(manifests) if "database" in parts else {}
        chosen: list[tuple[Stop, Sequence[Member]]] = []
        for stop in path:
            names = needs.get(stop.manifest.point, ())
            others = parts - {"database"} if stop is path[-1] else frozenset()
            members = [one for one in stop.manifest.members if one.name in names or one.part in others]
            if members:
                chosen.append((stop, members))
        return chosen

    def _fetch(self, wanted: Sequence[tuple[Stop, Sequence[Member]]], target: Target) -> None:
        with self.phases.phase("fetch"):
            for stop, members in wanted:
                names = [member.name for member in members]
                into = target.fetched / stop.manifest.point
                self.shelf.get(stop.snapshot.id, names, into, progress=self.phases)

    def _compare(self, wanted: Sequence[tuple[Stop, Sequence[Member]]], target: Target) -> None:
        total = sum(member.size_bytes for _, members in wanted for member in members)
        before = 0
        with self.phases.phase("compare hashes") as progress:
            for stop, members in wanted:
                for member in members:
                    at = before

                    def tick(done: int, at: int = at) -> None:
                        progress("compare hashes", at + done, total)

                    target.check(target.fetched / stop.manifest.point, member, tick)
                    before += member.size_bytes

    def _put_together(
        self, wanted: Sequence[tuple[Stop, Sequence[Member]]], parts: Collection[Part], target: Target
    ) -> dict[str, Any]:
        links = _links(wanted, target)
        last, manifest = links[-1].directory, links[-1].manifest
        restored: dict[str, Any] = {}
        if "database" in parts and manifest.database is not None:
            made = self.assembler.assemble(links, target.partial / "database", self.phases)
            names = [str(path.relative_to(target.partial)) for path in made]
            restored["database"] = {"engine": manifest.database.engine, "files": names}
        if "redis" in parts:
            dumps = self.assembler.quarantine(links[-1], target.partial, self.phases)
            restored["redis"] = [str(dump.relative_to(target.partial)) for dump in dumps]
        for file in manifest.files:
            if file.part in parts:
                name = file.member if file.member.startswith(f"{file.part}/") else f"{file.part}/{file.member}"
                target.place(last / file.member, name, mode=file.mode & _PERMISSIONS)
                restored.setdefault(file.part, []).append({"file": name, "origin": file.origin})
        return restored


def path_in(snapshots: Sequence[Snapshot], manifests: Manifests, point: str) -> tuple[Stop, ...]:
    """Find what a restore of a point needs, from the vault alone; the full comes first.

    Raises:
        BrokenLineageError: the point or a parent of it is not there, or they do not fit together.
        UnreadableManifestError: one of the manifests cannot be read.
    """
    there = {snapshot.tags.point: snapshot for snapshot in newest_of_each(snapshots)}
    stops: dict[str, Stop] = {}
    name: str | None = point
    while name in there and name not in stops:
        manifest = manifests.read(there[name])
        stops[name] = Stop(manifest=manifest, snapshot=there[name])
        name = manifest.parent
    path = Lineage(place_in(stop.manifest) for stop in stops.values()).path_to(point)
    return tuple(stops[place.id] for place in path)


def _links(wanted: Sequence[tuple[Stop, Sequence[Member]]], target: Target) -> list[Link]:
    return [Link(manifest=stop.manifest, directory=target.fetched / stop.manifest.point) for stop, _ in wanted]


def _parts(order: RestoreOrder, manifest: Manifest) -> frozenset[Part]:
    """Give the parts that are restored.

    Raises:
        PermanentError: the point has none of them, or not one that was named.
    """
    there = {member.part for member in manifest.members}
    if missing := order.only - there if order.only != PARTS else None:
        has = ", ".join(sorted(there))
        msg = f"{order.point} has no {' and no '.join(sorted(missing))}: it has {has}"
        raise PermanentError(msg)
    return frozenset(order.only & there)


def _needed_bytes(wanted: Sequence[tuple[Stop, Sequence[Member]]], manifest: Manifest, parts: Collection[Part]) -> int:
    """Say how much is written: what is fetched, and beside it the database that is put together from it."""
    fetched = sum(member.size_bytes for _, members in wanted for member in members)
    database = manifest.database if "database" in parts else None
    return fetched + ((database.file_bytes or 0) if database is not None else 0)


def _report(
    order: RestoreOrder, path: Sequence[Stop], restored: Mapping[str, Any], seconds: Mapping[str, float]
) -> dict[str, Any]:
    manifest = path[-1].manifest
    took = {phase.replace(" ", "_"): took_s for phase, took_s in seconds.items()}
    return {
        "point": manifest.point,
        "profile": manifest.profile,
        "kind": manifest.kind,
        "taken_at": manifest.taken_at.isoformat(),
        "path": [stop.manifest.point for stop in path],
        "to": str(order.to),
        "restored": dict(restored),
        "is_equal": True,
        "seconds": took,
    }
