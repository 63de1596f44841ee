"""The chain that a point rests on: its files as they were fetched, and the order in which they were put together.

chain.manifest   the manifest in the restored set, byte by byte that of the vault
chain.lineage    each point rests on the one before it, and the last one is the point
chain.members    the SHA-256 of each file that the restore of the database needs

A mutant goes the way that a restore goes: lineage and hashes first; what these let pass is put together, and what comes
out of that is looked at. So each of these walls is tried by itself: a file that was damaged and has the hash of the
damaged one in its manifest gets as far as the assembler.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.verdicts import Check
from tasks.backups.manifest import FILE_NAME
from tasks.backups.store.drills.chain_mutants import chain_mutants
from tasks.backups.store.hashing import DamagedMemberError, check_member
from tasks.backups.store.targets import enterable
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.backups.drills.subjects import Examiner, Mutant, Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.restoring import Assembler
    from tasks.backups.staging import Link, Progress

_DATABASE: Final = "database"


class ChainExaminer:
    """Looks at the files that a point was put together from, whatever engine they are of."""

    artefact: Artefact = "chain"

    def __init__(self, *, assembler: Assembler, examiners: Sequence[Examiner] = ()) -> None:
        """Know who puts databases together, and who looks at a database that came out of a damaged chain."""
        self._assembler, self._examiners = assembler, examiners

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Compare them with the manifests; of a chain that was not kept, only the manifest is there."""
        is_kept = any(self._needs(subject.links).values())
        return self._walls(subject, progress) if is_kept else [self._manifest(subject)]

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage a chain."""

        def look(damaged: Subject, directory: Path) -> Sequence[Check]:
            return self._look(damaged, directory, progress)

        return chain_mutants(subject, self._needs(subject.links), look, progress)

    def _look(self, damaged: Subject, directory: Path, progress: Progress) -> Sequence[Check]:
        """Go the way of a restore with a damaged chain, as far as it gets."""
        checks = self._walls(damaged, progress)
        if any(check.differences for check in checks):
            return checks
        assembled = directory / "assembled"
        assembled.mkdir(mode=0o700)
        with enterable(damaged.scratch, directory):
            try:
                self._assembler.assemble(damaged.links, assembled / _DATABASE, progress)
            except (PermanentError, KeyError) as error:
                return [*checks, _check("assembly", 1, "points", [str(error)])]
            checks.append(_check("assembly", 1, "points"))
            found = replace(damaged, restored=assembled, links=())
            return [*checks, *(check for examiner in self._examiners for check in examiner.examine(found, progress))]

    def _walls(self, subject: Subject, progress: Progress) -> list[Check]:
        return [self._manifest(subject), _lineage(subject), self._members(subject, progress)]

    def _needs(self, links: Sequence[Link]) -> dict[str, list[str]]:
        """Name by point what a restore of the last one needs, in one order."""
        needs = self._assembler.needs([link.manifest for link in links]) if links else {}
        return {point: sorted(names) for point, names in needs.items()}

    def _manifest(self, subject: Subject) -> Check:
        expected, path = subject.manifest.to_json(), subject.restored / FILE_NAME
        found = path.read_bytes() if path.is_file() else b""
        said = [] if found == expected else [f"the manifest that was restored is not that of {subject.manifest.point}"]
        return _check("manifest", len(expected), "bytes", said)

    def _members(self, subject: Subject, progress: Progress) -> Check:
        needs = self._needs(subject.links)
        said, examined = [], 0
        for link in subject.links:
            for name in needs.get(link.manifest.point, ()):
                examined += 1
                try:
                    tick = lambda done: progress("comparing", done)  # noqa: E731  shorter than a function
                    check_member(link.directory / name, link.manifest.member(name), tick=tick)
                except DamagedMemberError as error:
                    said.append(f"point {link.manifest.point}: {error}")
        return _check("members", examined, "files", said)


def _lineage(subject: Subject) -> Check:
    said = []
    before, chain = None, subject.manifest.chain
    for link in subject.links:
        manifest = link.manifest
        if manifest.parent != before:
            said.append(f"point {manifest.point} rests on {manifest.parent}, and comes after {before}")
        if manifest.chain != chain:
            said.append(f"point {manifest.point} is of the chain {manifest.chain}, and not of {chain}")
        before = manifest.point
    if before != subject.manifest.point:
        said.append(f"the chain ends with {before}, and not with {subject.manifest.point}")
    return _check("lineage", len(subject.links), "points", said)


def _check(name: str, examined: int, unit: str, differences: Sequence[str] = ()) -> Check:
    return Check(name=f"chain.{name}", artefact="chain", examined=examined, unit=unit, differences=tuple(differences))
