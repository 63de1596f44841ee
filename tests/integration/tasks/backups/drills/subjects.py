"""Restored sets for the tests of examiners: a real point of a real crew, and the files of its chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.backups.drills.subjects import Subject
from tasks.backups.drills.verdicts import MutantResult
from tasks.backups.manifest import FILE_NAME, Manifest
from tasks.backups.operations.sources import CrewAssembler
from tasks.backups.operations.vaults import limits_of, vault_of
from tasks.backups.restoring import path_in
from tasks.backups.staging import Limits, Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.drills.subjects import Examiner
    from tasks.backups.operations.vaults import OpenVault
    from tests.integration.tasks.backups.crew import Crew


def silent(phase: str, done: int, total: int | None = None) -> None:
    """Hear nothing."""


@dataclass(frozen=True)
class Set:
    """A restored point, as a drill has it."""

    subject: Subject
    opened: OpenVault
    assembler: CrewAssembler


def restored_set(crew: Crew, point: str) -> Set:
    """Restore a point, and keep the files of its chain."""
    opened = vault_of(crew.options)
    assembler = CrewAssembler(postgresql_tools=crew.postgresql_tools, limits=limits_of(crew.options))
    _, restored = crew.restore(point)
    path = path_in(opened.vault.list(), opened.manifests, point)
    needs = assembler.needs([stop.manifest for stop in path])
    links = []
    for stop in path:
        names = needs.get(stop.manifest.point)
        if names:
            to = restored.with_name(f"{restored.name}-chain") / stop.manifest.point
            opened.vault.get(stop.snapshot.id, names, to, progress=silent)
            links.append(Link(manifest=stop.manifest, directory=to))
    scratch = restored.with_name(f"{restored.name}-scratch")
    scratch.mkdir(mode=0o700)
    subject = Subject(
        manifest=Manifest.from_json((restored / FILE_NAME).read_bytes()),
        restored=restored,
        scratch=scratch,
        links=links,
        limits=Limits(nice=0, idle_io=False),
        postgresql_tools=crew.postgresql_tools,
    )
    return Set(subject, opened, assembler)


def tried(examiner: Examiner, subject: Subject) -> list[MutantResult]:
    """Try all mutants of an examiner, as a drill does."""
    return [
        MutantResult(
            name=mutant.name,
            artefact=mutant.artefact,
            noticed_by=() if mutant.not_possible else tuple(c.name for c in mutant.trial() if c.differences),
            not_possible=mutant.not_possible,
        )
        for mutant in examiner.mutants(subject, silent)
    ]


def table_of(results: Sequence[MutantResult]) -> str:
    """Write the kill table for people."""
    width = max(len(one.name) for one in results)
    said = [f"not possible: {one.not_possible}" if one.not_possible else ", ".join(one.noticed_by) for one in results]
    return "\n".join(f"{one.name:<{width}}  {text}" for one, text in zip(results, said, strict=True))
