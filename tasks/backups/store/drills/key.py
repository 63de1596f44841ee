"""The key of a vault: without it nothing opens."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.backups.drills.subjects import Mutant
from tasks.backups.drills.verdicts import Check
from tasks.backups.store.drills.copies import chance, trial_directory
from tasks.backups.store.keys import read_password, write_password
from tasks.backups.store.restic.program import Restic
from tasks.backups.vaults import VaultPasswordError
from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.staging import Progress
    from tasks.backups.vaults import VaultPlace


class KeyExaminer:
    """Sees that a vault refuses every password but its own. It only looks, and leaves no lock there."""

    artefact: Artefact = "key"

    def __init__(self, *, place: VaultPlace, program: str) -> None:
        """Know the vault that the point came from; `program` is the engine."""
        self._place, self._program = place, program

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Say nothing: that the key opens the vault, the restore has shown."""
        del subject, progress
        return ()

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the wrong keys."""

        def mutant(name: str, wrong: Callable[[], str]) -> Mutant:
            return Mutant(name=name, artefact="key", trial=lambda: self._try(subject, wrong(), progress))

        def one_bit_off() -> str:
            password = read_password(self._place.password_file)
            at = chance(subject, "key.one-bit-off").randrange(len(password))
            return password[:at] + _neighbour(password[at]) + password[at + 1 :]

        return (
            mutant("key.another-password", lambda: secrets.token_urlsafe(32)),
            mutant("key.one-bit-off", one_bit_off),
        )

    def _try(self, subject: Subject, password: str, progress: Progress) -> Sequence[Check]:
        with trial_directory(subject.scratch) as directory:
            password_file = directory / "password"
            write_password(password_file, password)
            if says := self._refusal(subject, self._place, directory / "right", progress):
                return [_check(unable=f"the vault does not open with its own password either: {says}")]
            wrong = replace(self._place, password_file=password_file)
            says = self._refusal(subject, wrong, directory / "wrong", progress)
            return [_check(differences=(says,) if says else ())]

    def _refusal(self, subject: Subject, place: VaultPlace, cache: Path, progress: Progress) -> str:
        """Open it, without a lock; give the words in which it refused the password, or nothing."""
        restic = Restic(place=place, program=self._program, cache=cache, limits=subject.limits)
        finished = restic.try_to(["--no-lock", "cat", "config"], tick=lambda: progress("try the key", 0))
        if not finished.code:
            return ""
        error = restic.failure(finished, "the vault does not open")
        if not isinstance(error, VaultPasswordError):
            raise error if isinstance(error, TransientError) else TransientError(str(error))
        return str(error)


def _check(*, differences: Sequence[str] = (), unable: str = "") -> Check:
    return Check(
        name="key.refused",
        artefact="key",
        examined=1,
        unit="passwords",
        differences=differences,
        unable=unable,
    )


def _neighbour(sign: str) -> str:
    """Give a sign that differs in its lowest bit, if that is a letter or a digit, and another letter if not."""
    other = chr(ord(sign) ^ 1)
    return other if other.isalnum() else "B" if sign == "A" else "A"
