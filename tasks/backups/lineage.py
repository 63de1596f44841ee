"""What a restore point rests on and what rests on it, from the points alone: a vault tells it without any database.

A chain is a path of parents that ends in a full. Two children of one parent, as a worker that had lost its lease may
leave them, are two paths and no fault.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.backups.manifest import Manifest
    from tasks.backups.points import Kind


class Placed(Protocol):
    """What is looked at of a point: a `RestorePoint` has it, and so has the `Place` of a manifest."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def profile(self) -> str:
        """What was taken."""

    @property
    def kind(self) -> Kind:
        """What it needs to be restored."""

    @property
    def chain(self) -> str:
        """The full that it rests on."""

    @property
    def sequence(self) -> int:
        """How many steps it is away from that."""

    @property
    def parent_id(self) -> str | None:
        """The point that its delta is against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a point stands."""

    id: str
    profile: str
    kind: Kind
    chain: str
    sequence: int
    parent_id: str | None


class BrokenLineageError(PermanentError):
    """A point cannot be restored, because what it rests on is not there or does not fit; the text says what."""


P = TypeVar("P", bound=Placed)


class Lineage(Generic[P]):
    """The points of a vault by what rests on what. Whichever order they come in, the answers are the same."""

    def __init__(self, points: Iterable[P]) -> None:
        self._points: dict[str, P] = {}
        self._ambiguous: set[str] = set()
        self._children: dict[str, list[P]] = defaultdict(list)
        for point in points:
            self._add(point)
        for children in self._children.values():
            children.sort(key=lambda child: child.id)

    def path_to(self, point_id: str) -> tuple[P, ...]:
        """Give what a restore of a point needs, in the order in which it is put together: the full comes first.

        Raises:
            BrokenLineageError: a part of it is missing or does not fit.
        """
        links: dict[str, P] = {}
        for point in self._upwards(point_id):
            if point.id in links:
                raise _broken(point_id, f"{point.id} rests on itself")
            links[point.id] = point
        if not links:
            raise _broken(point_id, "it is not in the vault")
        for point in links.values():
            if fault := self._misfit(point):
                raise _broken(point_id, fault)
        return tuple(reversed(links.values()))

    def fault_of(self, point_id: str) -> str | None:
        """Say why a point cannot be restored; None if its lineage is whole."""
        try:
            self.path_to(point_id)
        except BrokenLineageError as error:
            return str(error)
        return None

    def broken(self) -> dict[str, str]:
        """Give every point that cannot be restored, with the reason."""
        return {point_id: fault for point_id in sorted(self._points) if (fault := self.fault_of(point_id))}

    def ancestors_of(self, point_id: str) -> tuple[P, ...]:
        """Give those of its ancestors that are there, parent first, also where the lineage is broken."""
        seen: dict[str, P] = {}
        for point in self._upwards(point_id):
            if point.id in seen:
                break
            seen[point.id] = point
        return tuple(ancestor for ancestor_id, ancestor in seen.items() if ancestor_id != point_id)

    def missing_for(self, point_id: str) -> str | None:
        """Name the point that the path to this one leads to and that is not there; None if none is missing."""
        if point_id not in self._points:
            return point_id
        top = (self._points[point_id], *self.ancestors_of(point_id))[-1]
        return top.parent_id if top.parent_id not in self._points else None

    def needed_by(self, point_id: str) -> tuple[P, ...]:
        """Give everything that rests on a point: its children first, then theirs; in the order of ids on each level."""
        found: dict[str, P] = {}
        level = [point_id]
        while level:
            children = [child for parent in level for child in self._children.get(parent, ())]
            new = {child.id: child for child in children if child.id not in found and child.id != point_id}
            found.update(new)
            level = list(new)
        return tuple(found.values())

    def chains(self) -> tuple[tuple[P, ...], ...]:
        """Give the path to every point that can be restored and that nothing rests on, in the order of their ids."""
        ends = (point_id for point_id in sorted(self._points) if not self._children.get(point_id))
        return tuple(self.path_to(point_id) for point_id in ends if self.fault_of(point_id) is None)

    def _add(self, point: P) -> None:
        known = self._points.setdefault(point.id, point)
        if known is not point and place_of(known) == place_of(point):
            return
        if known is not point:
            self._ambiguous.add(point.id)
        if point.parent_id is not None:
            self._children[point.parent_id].append(point)

    def _upwards(self, point_id: str) -> Iterator[P]:
        """Give a point, its parent, and so on; in a circle it never ends."""
        point = self._points.get(point_id)
        while point is not None:
            yield point
            point = self._points.get(point.parent_id) if point.parent_id is not None else None

    def _misfit(self, point: P) -> str | None:
        if point.id in self._ambiguous:
            return f"the vault has two different points of the name {point.id}"
        if point.kind == "full":
            return _misfit_of_full(point)
        if point.parent_id is None:
            return f"{point.id} is {_a(point.kind)} without a parent"
        parent = self._points.get(point.parent_id)
        if parent is None:
            return f"{point.id} rests on {point.parent_id}, which is not in the vault"
        return _misfit_of_child(point, parent)


def place_of(point: Placed) -> Place:
    """Leave out everything but where a point stands."""
    return Place(
        id=point.id,
        profile=point.profile,
        kind=point.kind,
        chain=point.chain,
        sequence=point.sequence,
        parent_id=point.parent_id,
    )


def place_in(manifest: Manifest) -> Place:
    """Read from a manifest where its point stands."""
    return Place(
        id=manifest.point,
        profile=manifest.profile,
        kind=manifest.kind,
        chain=manifest.chain,
        sequence=manifest.sequence,
        parent_id=manifest.parent,
    )


def _broken(point_id: str, fault: str) -> BrokenLineageError:
    return BrokenLineageError(f"{point_id} cannot be restored: {fault}")


def _misfit_of_full(point: Placed) -> str | None:
    if point.parent_id is not None:
        return f"{point.id} is a full and names {point.parent_id} as its parent"
    if point.chain != point.id:
        return f"{point.id} is a full and names {point.chain} as its chain"
    if point.sequence:
        return f"{point.id} is a full and has the sequence {point.sequence} instead of 0"
    return None


def _misfit_of_child(point: Placed, parent: Placed) -> str | None:
    if parent.profile != point.profile:
        return f"{point.id} is of the profile {point.profile}, its parent {parent.id} is of {parent.profile}"
    if parent.chain != point.chain:
        return f"{point.id} is of the chain {point.chain}, its parent {parent.id} is of {parent.chain}"
    if point.sequence != parent.sequence + 1:
        return f"{point.id} has the sequence {point.sequence}, its parent {parent.id} has {parent.sequence}"
    if point.kind == "differential" and parent.kind != "full":
        return f"{point.id} is a differential, its parent {parent.id} is {_a(parent.kind)}"
    return None


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind == "incremental" else f"a {kind}"
