"""What a drill looks at: a restored set in its sandbox, and whoever knows how to look at a part of it.

Examiner    one for each artefact: reads the restored set and gives checks, and knows mutants of it
Mutant      one way to damage a copy; the examiners must reject it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence  # noqa: TC003  fields
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  a field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tasks.backups.drills.verdicts import Artefact, Check
    from tasks.backups.manifest import Manifest
    from tasks.backups.staging import Limits, Link, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A restored set. Everything of it lies below one private directory, and nothing outside is ever looked at."""

    manifest: Manifest
    """What it must be."""
    restored: Path
    """The published restore: `database/`, `quarantine/`, `config/`, `model/`, `restore.json`, `manifest.json`."""
    scratch: Path
    """An empty private directory beside it, for copies; whoever makes one removes it."""
    links: Sequence[Link] = ()
    """The chain as it was fetched, the full first, for mutants of the chain; empty where it was not kept."""
    limits: Limits
    postgresql_tools: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One way to damage a set."""

    name: str
    """Artefact and damage in kebab case, such as `sqlite.drop-a-row`."""
    artefact: Artefact
    trial: Callable[[], Sequence[Check]] = field(repr=False)
    """Make a copy, damage it, look at it as a drill looks, remove it; give the checks that came out.

    What the damage makes impossible to read is a difference, never an error: `unable` does not count as noticed.
    A reader that refuses the copy (`PermanentError`) has noticed; the trial turns that into a check with a difference.
    Raises what `Progress` raises, and `TransientError` where the machine was in the way.
    """
    not_possible: str = ""
    """Why there is nothing to damage in this way; then `trial` is not called."""


class Examiner(Protocol):
    """Knows one artefact."""

    artefact: Artefact

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Compare it with the manifest for equality; nothing, if the point does not have it.

        It gives every difference as a check; it raises only where it could not look.

        Raises:
            TransientError: the machine was in the way.
            PermanentError: a tool is missing; the drill is inconclusive then.
        """

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage it; the restored set itself is never touched."""
