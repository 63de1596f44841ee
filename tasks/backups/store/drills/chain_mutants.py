"""Chains that must be rejected: their files damaged or exchanged, their order changed, their manifests bent.

The fetched files are links to those that the restore had. Whatever is damaged is a copy of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.subjects import Mutant
from tasks.backups.manifest import FILE_NAME
from tasks.backups.postgresql.chain import BASE, WAL
from tasks.backups.store.drills.copies import chance, copy_file, flip_bit, trial_directory
from tasks.backups.store.hashing import sha256_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Check
    from tasks.backups.staging import Link, Progress

    Look = Callable[[Subject, Path], Sequence[Check]]
    Bend = Callable[[Subject, Path], Subject]
    """Gives the damaged set, of which everything that is damaged lies in the directory."""
    Harm = Callable[[Path, random.Random], None]

_BITS: Final = 8
_NO_CHAIN: Final = "the files of the database were not kept, or there is none"
_NO_DELTA: Final = "the point is a full: there is no delta"
_ONE_DELTA: Final = "there are no two deltas"
_LOG: Final = "the parts of a log find their order by themselves, and one may have another in it"
_OTHER: Final = "0" * 12
"""No point is called that: the names of points are random."""


def chain_mutants(
    subject: Subject, needs: Mapping[str, Sequence[str]], look: Look, progress: Progress
) -> Sequence[Mutant]:
    """Name the ways to damage the chain of a set; `needs` names by point the files that a restore needs of it."""
    bends = _Bends(subject=subject, needs=needs, progress=progress)
    found = (
        ("flip-a-bit-of-the-manifest", bends.flip_bit_of_manifest, ""),
        ("flip-a-bit-of-the-full", bends.harm_file(_FULL, _flip_bit), bends.why_not(0)),
        ("truncate-the-full", bends.harm_file(_FULL, _truncate), bends.why_not(0)),
        ("leave-out-the-full", bends.leave_out_full, bends.why_not(0)),
        ("flip-a-bit-of-a-delta", bends.harm_file(_DELTA, _flip_bit), bends.why_not(1)),
        ("truncate-a-delta", bends.harm_file(_DELTA, _truncate), bends.why_not(1)),
        ("lose-a-delta", bends.harm_file(_DELTA, _lose), bends.why_not(1)),
        ("delta-of-another-chain", bends.rest_on_another_chain, bends.why_not(1)),
        ("leave-out-a-delta", bends.leave_out_delta, bends.why_not(1)),
        ("reorder-two-deltas", bends.reorder, bends.why_not(2)),
        ("exchange-the-files-of-two-deltas", bends.exchange_files, bends.why_not_exchange()),
        ("flip-a-bit-and-its-hash", bends.flip_bit_and_hash, bends.why_not(0)),
        ("exchange-two-deltas-and-their-hashes", bends.exchange_files_and_hashes, bends.why_not_exchange_hashes()),
        ("leave-out-a-delta-and-close-the-gap", bends.close_gap, bends.why_not_close_gap()),
    )

    def mutant(name: str, bend: Bend, not_possible: str) -> Mutant:
        def trial() -> Sequence[Check]:
            with trial_directory(subject.scratch) as directory:
                return look(bend(subject, directory), directory)

        return Mutant(name=f"chain.{name}", artefact="chain", trial=trial, not_possible=not_possible)

    return [mutant(*one) for one in found]


_FULL: Final = "full"
_DELTA: Final = "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bends:
    subject: Subject
    needs: Mapping[str, Sequence[str]]
    progress: Progress

    @property
    def links(self) -> Sequence[Link]:
        return self.subject.links

    def why_not(self, deltas: int) -> str:
        """Say why a damage that takes so many deltas is not possible; empty if it is."""
        there = [link for link in self.links if self.needs.get(link.manifest.point)]
        if not there:
            return _NO_CHAIN
        if len(self.links) - 1 < deltas:
            return _NO_DELTA if len(self.links) == 1 else _ONE_DELTA
        return ""

    def why_not_exchange(self) -> str:
        return self.why_not(2) or ("" if self._exchangeable() else "no two deltas have different files of one name")

    def why_not_exchange_hashes(self) -> str:
        return self.why_not_exchange() or self._why_not_log()

    def why_not_close_gap(self) -> str:
        reason = self.why_not(2) or self._why_not_log()
        return reason or ("" if self._gaps() else "no delta but the last changes anything")

    def _why_not_log(self) -> str:
        """Say why it is no damage if deltas that are parts of a log change places, or one of them is missing."""
        database = self.links[-1].manifest.database
        return _LOG if database is not None and database.method == "wal" else ""

    def flip_bit_of_manifest(self, subject: Subject, directory: Path) -> Subject:
        """Flip one of the restored manifest; the database is not looked at for it, and so is not copied."""
        random = chance(subject, "chain.flip-a-bit-of-the-manifest")
        copy_file(subject.restored / FILE_NAME, directory / FILE_NAME, self.progress)
        _flip_bit(directory / FILE_NAME, random)
        return replace(subject, restored=directory)

    def harm_file(self, which: str, harm: Harm) -> Bend:
        """Damage one of the files of the full, or of a delta."""

        def bend(subject: Subject, directory: Path) -> Subject:
            random = chance(subject, f"chain.{which} {harm.__name__}")
            place = 0 if which == _FULL else random.randrange(1, len(self.links))
            link, name = self._copied(place, directory, random)
            harm(link.directory / name, random)
            return self._with({place: link})

        return bend

    def flip_bit_and_hash(self, subject: Subject, directory: Path) -> Subject:
        """Flip a bit of a file in the middle, where its content is, and have the manifest say the hash of that."""
        random = chance(subject, "chain.flip-a-bit-and-its-hash")
        place = random.randrange(len(self.links))
        link, name = self._copied(place, directory, random, self._used(place))
        path = link.directory / name
        size_bytes = path.stat().st_size
        flip_bit(path, random.randint(size_bytes // 4, size_bytes * 3 // 4), random.randrange(_BITS))
        sha256 = sha256_of(path, tick=lambda done: self.progress("hashing", done))
        return self._with({place: _saying(link, {name: (sha256, size_bytes)})})

    def leave_out_full(self, subject: Subject, directory: Path) -> Subject:
        del directory
        return replace(subject, links=self.links[1:])

    def leave_out_delta(self, subject: Subject, directory: Path) -> Subject:
        del directory
        left_out = chance(subject, "chain.leave-out-a-delta").randrange(1, len(self.links))
        return replace(subject, links=[*self.links[:left_out], *self.links[left_out + 1 :]])

    def close_gap(self, subject: Subject, directory: Path) -> Subject:
        """Leave one out, and have the next one say that it rests on the one before."""
        del directory
        gap = chance(subject, "chain.close-gap").choice(self._gaps())
        following = self.links[gap + 1]
        manifest = following.manifest.model_copy(update={"parent": self.links[gap].manifest.parent})
        return self._of([*self.links[:gap], replace(following, manifest=manifest), *self.links[gap + 2 :]])

    def rest_on_another_chain(self, subject: Subject, directory: Path) -> Subject:
        del directory
        place = chance(subject, "chain.another-chain").randrange(1, len(self.links))
        link = self.links[place]
        manifest = link.manifest.model_copy(update={"chain": _OTHER, "parent": _OTHER})
        return self._with({place: replace(link, manifest=manifest)})

    def reorder(self, subject: Subject, directory: Path) -> Subject:
        del directory
        one, other = sorted(chance(subject, "chain.reorder").sample(range(1, len(self.links)), 2))
        return self._with({one: self.links[other], other: self.links[one]})

    def exchange_files(self, subject: Subject, directory: Path) -> Subject:
        """Give each of two deltas a file of the other; both still say what theirs were."""
        one, other, name = chance(subject, "chain.exchange").choice(self._exchangeable())
        first, second = self._exchanged(one, other, name, directory)
        return self._with({one: first, other: second})

    def exchange_files_and_hashes(self, subject: Subject, directory: Path) -> Subject:
        one, other, name = chance(subject, "chain.exchange-hashes").choice(self._exchangeable())
        first, second = self._exchanged(one, other, name, directory)
        mine, theirs = (self.links[place].manifest.member(name) for place in (one, other))
        first = _saying(first, {name: (theirs.sha256, theirs.size_bytes)})
        second = _saying(second, {name: (mine.sha256, mine.size_bytes)})
        return self._with({one: first, other: second})

    def _exchanged(self, one: int, other: int, name: str, directory: Path) -> tuple[Link, Link]:
        first, second = (self._linked(place, directory, without=name) for place in (one, other))
        for link, source in ((first, other), (second, one)):
            copy_file(self.links[source].directory / name, link.directory / name, self.progress)
        return first, second

    def _exchangeable(self) -> list[tuple[int, int, str]]:
        found = []
        for one in range(1, len(self.links)):
            for other in range(one + 1, len(self.links)):
                first, second = self.links[one].manifest, self.links[other].manifest
                names = {*self._used(one)}.intersection(self._used(other))
                differing = [name for name in sorted(names) if first.member(name).sha256 != second.member(name).sha256]
                found += [(one, other, name) for name in differing]
        return found

    def _gaps(self) -> list[int]:
        """Find the deltas that can be left out with another point following, and that are missed then."""
        return [place for place in range(1, len(self.links) - 1) if not self.links[place].manifest.is_unchanged]

    def _used(self, place: int) -> Sequence[str]:
        """Name the files of a point that decide what comes out: not a log that a later base has in it.

        One of those is fetched and compared, and that is all: what is wrong in it, its hash alone can tell.
        """
        names = self.needs.get(self.links[place].manifest.point, ())
        later = (link.manifest.point for link in self.links[place + 1 :])
        is_covered = any(BASE in self.needs.get(point, ()) for point in later)
        return [name for name in names if name != WAL or not is_covered]

    def _copied(
        self, place: int, directory: Path, random: random.Random, names: Sequence[str] = ()
    ) -> tuple[Link, str]:
        """Give a point of the chain with a copy of its own of one of its files, and name that."""
        name = random.choice(names or self.needs[self.links[place].manifest.point])
        link = self._linked(place, directory, without=name)
        copy_file(self.links[place].directory / name, link.directory / name, self.progress)
        return link, name

    def _linked(self, place: int, directory: Path, *, without: str) -> Link:
        link, to = self.links[place], directory / f"link-{place}"
        for name in self.needs[link.manifest.point]:
            (to / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if name != without:
                os.link(link.directory / name, to / name)
        return replace(link, directory=to)

    def _with(self, changed: Mapping[int, Link]) -> Subject:
        return self._of([changed.get(place, link) for place, link in enumerate(self.links)])

    def _of(self, links: Sequence[Link]) -> Subject:
        """Give the set with other links, its own manifest being that of the last one where that was bent too."""
        return replace(self.subject, links=links)


def _saying(link: Link, said: Mapping[str, tuple[str, int]]) -> Link:
    members = tuple(
        member
        if member.name not in said
        else member.model_copy(update={"sha256": said[member.name][0], "size_bytes": said[member.name][1]})
        for member in link.manifest.members
    )
    return replace(link, manifest=link.manifest.model_copy(update={"members": members}))


def _flip_bit(path: Path, random: random.Random) -> None:
    flip_bit(path, random.randrange(path.stat().st_size), random.randrange(_BITS))


def _truncate(path: Path, random: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(random.randrange(path.stat().st_size))


def _lose(path: Path, random: random.Random) -> None:
    del random
    path.unlink()
