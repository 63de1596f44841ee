"""The vault: a copy of as much of it as one file of the point needs, damaged, from which that file is fetched.

    config · keys · index · the snapshot of one point of the chain · the packs with the trees, the manifest and one file

So it costs as much as that one file, however large the vault is. Where the pieces of a file lie is asked of the engine.
The undamaged copy is fetched from first: a copy that gives nothing proves nothing when it is damaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.backups.adoption import newest_of_each
from tasks.backups.drills.subjects import Mutant
from tasks.backups.drills.verdicts import Check
from tasks.backups.eta import bytes_text
from tasks.backups.manifest import FILE_NAME
from tasks.backups.store.drills.copies import chance, copy_file, flip_bit, trial_directory
from tasks.backups.store.drills.pieces import locate, pack_path
from tasks.backups.store.hashing import check_member
from tasks.backups.store.restic import ResticVault
from tasks.backups.store.restic.program import Restic
from tasks.backups.vaults import VaultLockedError, VaultUnreachableError
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.manifest import Manifest
    from tasks.backups.staging import Link, Progress
    from tasks.backups.store.drills.pieces import Piece
    from tasks.backups.vaults import Vault

    Harm = Callable[["_Copy", Callable[[int], int]], None]
    """Damages a copy; the second argument chooses a number below another."""

_MOST_BYTES: Final = 1024 * 1024 * 1024
_WHOLE: Final = ("config", "keys", "index")
_BITS: Final = 8


class VaultExaminer:
    """Sees that damage to the files of a vault is noticed when a point is fetched from it."""

    artefact: Artefact = "vault"

    def __init__(self, *, vault: Vault, program: str, most_bytes: int = _MOST_BYTES) -> None:
        """Know the vault that the point came from; `program` is the engine.

        A file of a point that has more than `most_bytes` is not copied.
        """
        self._vault, self._program, self._most_bytes = vault, program, most_bytes

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Say nothing: the restore has just fetched everything, and `chain.members` has looked at what came."""
        del subject, progress
        return ()

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage it.

        Raises:
            TransientError: the vault is in the way.
        """
        chosen = self._choose(subject)
        if chosen is None or (reason := self._why_not(chosen)):
            not_possible = "no file of the point was kept" if chosen is None else reason
            return [_mutant(name, tuple, not_possible=not_possible) for name in _HARMS]
        trials = _Trials(subject, self._vault, program=self._program, progress=progress, chosen=chosen)
        return [_mutant(name, partial(trials.run, name, harm)) for name, harm in _HARMS.items()]

    def _why_not(self, chosen: _Chosen) -> str:
        if not Path(self._vault.place.location).is_dir():
            return "the vault is no directory of this machine: its files cannot be copied"
        size_bytes = chosen.manifest.member(chosen.name).size_bytes
        if size_bytes > self._most_bytes:
            return f"{chosen.name} has {bytes_text(size_bytes)}, and up to {bytes_text(self._most_bytes)} are copied"
        return ""

    def _choose(self, subject: Subject) -> _Chosen | None:
        """Choose a point of the chain, and a file of it that the restore has needed."""
        random = chance(subject, "vault")
        links: list[Link] = list(subject.links)
        random.shuffle(links)
        for link in links:
            members = [one for one in link.manifest.members if one.size_bytes]
            names = [one.name for one in members if (link.directory / one.name).is_file()]
            if names:
                return _Chosen(manifest=link.manifest, name=random.choice(names))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What is fetched from a damaged copy."""

    manifest: Manifest
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """A copy of a part of a vault."""

    directory: Path
    pieces: Sequence[Piece]
    """Of the chosen file."""
    manifest_pieces: Sequence[Piece]

    def pack(self, piece: Piece) -> Path:
        return self.directory / pack_path(piece.pack)


class _Trials:
    """Copies of one part of a vault; what is in it is asked once, and that the copy is good is seen once."""

    def __init__(self, subject: Subject, vault: Vault, *, program: str, progress: Progress, chosen: _Chosen) -> None:
        self._subject, self._vault, self._program, self._progress = subject, vault, program, progress
        self._chosen = chosen
        self._snapshot: str | None = None
        self._located: dict[str, Sequence[Piece]] = {}
        self._said_of_control: str | None = None

    def run(self, name: str, harm: Harm) -> Sequence[Check]:
        """Copy, damage, fetch."""
        with trial_directory(self._subject.scratch) as directory:
            snapshot = self._find(self._chosen, directory / "finding")
            copy = self._copied(snapshot, self._chosen, directory / "vault")
            if self._said_of_control is None:
                self._said_of_control = self._fetch(snapshot, self._chosen, copy, directory / "control")
            if self._said_of_control:
                msg = f"the undamaged copy of the vault does not give {self._chosen.name}: {self._said_of_control}"
                return [_check(unable=msg)]
            harm(copy, chance(self._subject, f"vault.{name}").randrange)
            said = self._fetch(snapshot, self._chosen, copy, directory / "damaged")
            return [_check(differences=(said,) if said else ())]

    def _find(self, chosen: _Chosen, cache: Path) -> str:
        """Find the snapshot, and where in the vault the files lie. Nothing is written there, not even a lock."""
        if self._snapshot is None:
            snapshot = self._snapshot_of(chosen.manifest.point)
            place, limits = self._vault.place, self._subject.limits
            restic = Restic(place=place, program=self._program, cache=cache, limits=limits)
            vault, names = Path(place.location), (chosen.name, FILE_NAME)
            self._located = locate(restic, vault, snapshot, names, lambda: self._progress("locating", 0))
            self._snapshot = snapshot
        return self._snapshot

    def _snapshot_of(self, point: str) -> str:
        for one in newest_of_each(self._vault.list()):
            if one.tags.point == point:
                return one.id
        msg = f"the vault has no point {point} any more"
        raise TransientError(msg)

    def _copied(self, snapshot: str, chosen: _Chosen, to: Path) -> _Copy:
        """Copy what the fetching of one file needs."""
        vault = Path(self._vault.place.location)
        packs = {piece.pack for pieces in self._located.values() for piece in pieces}
        try:
            sources = [path for name in _WHOLE for path in _files(vault / name)]
            sources += [vault / "snapshots" / snapshot, *(vault / pack_path(pack) for pack in sorted(packs))]
            for source in sources:
                copy_file(source, to / source.relative_to(vault), self._progress)
        except FileNotFoundError as error:
            msg = f"the vault was changed while it was copied: {error.filename} is gone"
            raise TransientError(msg) from error
        (to / "locks").mkdir(mode=0o700)
        return _Copy(directory=to, pieces=self._located[chosen.name], manifest_pieces=self._located[FILE_NAME])

    def _fetch(self, snapshot: str, chosen: _Chosen, copy: _Copy, directory: Path) -> str:
        """Fetch from a copy, with an empty cache; say in words what of file and manifest is not as it should be."""
        place = replace(self._vault.place, location=str(copy.directory))
        limits = self._subject.limits
        vault = ResticVault(place, program=self._program, cache=directory / "cache", limits=limits, tries_again=False)
        to, member = directory / "fetched", chosen.manifest.member(chosen.name)
        try:
            vault.get(snapshot, [chosen.name, FILE_NAME], to, progress=self._progress)
            check_member(to / chosen.name, member, tick=lambda done: self._progress("comparing", done))
        except (VaultLockedError, VaultUnreachableError, PermanentError) as error:
            # Nobody else uses the copy, and it is on this disk: what keeps it from being read is the damage.
            return str(error)
        if (to / FILE_NAME).read_bytes() != chosen.manifest.to_json():
            return f"the manifest of {chosen.manifest.point} is not the one that was stored"
        return ""


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())


def _flip_bit_of_file(copy: _Copy, below: Callable[[int], int]) -> None:
    _flip_bit_in(copy, copy.pieces, below)


def _flip_bit_of_manifest(copy: _Copy, below: Callable[[int], int]) -> None:
    _flip_bit_in(copy, copy.manifest_pieces, below)


def _flip_bit_in(copy: _Copy, pieces: Sequence[Piece], below: Callable[[int], int]) -> None:
    piece = pieces[below(len(pieces))]
    flip_bit(copy.pack(piece), piece.offset + below(piece.length), below(_BITS))


def _truncate_pack(copy: _Copy, below: Callable[[int], int]) -> None:
    """Cut a pack off within a piece of the file."""
    piece = copy.pieces[below(len(copy.pieces))]
    with copy.pack(piece).open("r+b") as file:
        file.truncate(piece.offset + below(piece.length))


def _lose_pack(copy: _Copy, below: Callable[[int], int]) -> None:
    copy.pack(copy.pieces[below(len(copy.pieces))]).unlink()


def _lose_index(copy: _Copy, below: Callable[[int], int]) -> None:
    """Lose all of it: which file of it tells of this pack cannot be known without opening each."""
    del below
    for path in _files(copy.directory / "index"):
        path.unlink()


def _lose_snapshot(copy: _Copy, below: Callable[[int], int]) -> None:
    del below
    for path in _files(copy.directory / "snapshots"):
        path.unlink()


_HARMS: Final[Mapping[str, Harm]] = {
    "flip-a-bit-of-a-pack": _flip_bit_of_file,
    "flip-a-bit-of-the-manifest": _flip_bit_of_manifest,
    "truncate-a-pack": _truncate_pack,
    "lose-a-pack": _lose_pack,
    "lose-the-index": _lose_index,
    "lose-the-snapshot": _lose_snapshot,
}


def _mutant(name: str, trial: Callable[[], Sequence[Check]], *, not_possible: str = "") -> Mutant:
    return Mutant(name=f"vault.{name}", artefact="vault", trial=trial, not_possible=not_possible)


def _check(*, differences: Sequence[str] = (), unable: str = "") -> Check:
    return Check(name="vault.data", artefact="vault", examined=1, unit="files", differences=differences, unable=unable)
