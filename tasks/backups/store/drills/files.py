"""Restored configuration files, compared with the manifest for equality.

files.content    every byte of each file, by its SHA-256
files.modes      who may read and write each of them
files.names      all of them are there, nothing else is, and none is a link
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.subjects import Mutant
from tasks.backups.drills.verdicts import Check
from tasks.backups.store.drills.copies import chance, copy_file, flip_bit, trial_directory
from tasks.backups.store.hashing import DamagedMemberError, check_member

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from random import Random

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.manifest import ConfigFile
    from tasks.backups.staging import Progress

    Harm = Callable[[Path, Sequence[Path], Random], None]
    """Damages a copy of the directory; it is given the files in it as well."""

_DIRECTORY: Final = "config"
_PERMISSIONS: Final = 0o777
_BITS: Final = 8
_MOST_SAID: Final = 10


class FilesExaminer:
    """Looks at the restored configuration."""

    artefact: Artefact = "files"

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Compare each file; nothing, if the point has none."""
        files = _files(subject)
        if not files:
            return ()
        return [_contents(subject, files, progress), _modes(subject, files), _names(subject, files)]

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage the files."""
        trials = _Trials(subject=subject, examine=self.examine, progress=progress)
        return [trials.of(name, harm) for name, harm in _HARMS.items()] if _files(subject) else []


def path_of(file: ConfigFile) -> str:
    """Give where a restore puts a file, relative to its directory."""
    return file.member if file.member.startswith(f"{file.part}/") else f"{file.part}/{file.member}"


def _files(subject: Subject) -> Sequence[ConfigFile]:
    return [file for file in subject.manifest.files if file.part == "config"]


def _contents(subject: Subject, files: Sequence[ConfigFile], progress: Progress) -> Check:
    said: list[str] = []
    for file in files:
        member = subject.manifest.member(file.member)
        path = subject.restored / path_of(file)
        try:
            check_member(path, member, tick=lambda done: progress("hash files", done))
        except DamagedMemberError as error:
            said.append(str(error))
        except OSError as error:
            said.append(f"{file.member} cannot be read: {error.strerror}")
    return _check("content", len(files), said)


def _modes(subject: Subject, files: Sequence[ConfigFile]) -> Check:
    said = []
    for file in files:
        path = subject.restored / path_of(file)
        if path.is_file():
            now, then = stat.S_IMODE(path.lstat().st_mode) & _PERMISSIONS, file.mode & _PERMISSIONS
            said += [f"{file.member} has mode {now:03o} instead of {then:03o}"] if now != then else []
    return _check("modes", len(files), said)


def _names(subject: Subject, files: Sequence[ConfigFile]) -> Check:
    directory = subject.restored / _DIRECTORY
    wanted = {path_of(file) for file in files}
    there = {str(path.relative_to(subject.restored)): path for path in directory.rglob("*")}
    plain = {name for name, path in there.items() if path.is_file() and not path.is_symlink()}
    parents = {
        str(parent) for name in wanted for parent in (subject.restored / name).relative_to(subject.restored).parents
    }
    said = [f"{name} is missing" for name in sorted(wanted - there.keys())]
    said += [f"{name} is no plain file" for name in sorted((wanted & there.keys()) - plain)]
    said += [f"{name} was not there" for name in sorted(there.keys() - wanted - parents)]
    return _check("names", len(files), said)


def _check(name: str, examined: int, differences: Sequence[str]) -> Check:
    said = tuple(differences[:_MOST_SAID])
    return Check(name=f"files.{name}", artefact="files", examined=examined, unit="files", differences=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    subject: Subject
    examine: Callable[[Subject, Progress], Sequence[Check]]
    progress: Progress

    def of(self, damage: str, harm: tuple[Harm, Callable[[Sequence[Path]], str]]) -> Mutant:
        do, why_not = harm
        name = f"files.{damage}"
        here = [self.subject.restored / path_of(file) for file in _files(self.subject)]
        return Mutant(name=name, artefact="files", trial=lambda: self._try(name, do), not_possible=why_not(here))

    def _try(self, name: str, harm: Harm) -> Sequence[Check]:
        with trial_directory(self.subject.scratch) as directory:
            copies = []
            for file in _files(self.subject):
                source, copy = self.subject.restored / path_of(file), directory / path_of(file)
                copy_file(source, copy, self.progress)
                copy.chmod(stat.S_IMODE(source.stat().st_mode))
                copies.append(copy)
            harm(directory / _DIRECTORY, copies, chance(self.subject, name))
            return self.examine(replace(self.subject, restored=directory), self.progress)


def _always(_files: Sequence[Path]) -> str:
    return ""


def _if_filled(files: Sequence[Path]) -> str:
    return "" if any(file.stat().st_size for file in files) else "every file is empty"


def _if_two_differ(files: Sequence[Path]) -> str:
    return "" if len({file.read_bytes() for file in files}) > 1 else "there are no two files that differ"


def _filled(files: Sequence[Path], random: Random) -> Path:
    return random.choice([file for file in files if file.stat().st_size])


def _flip_bit(_directory: Path, files: Sequence[Path], random: Random) -> None:
    file = _filled(files, random)
    mode = stat.S_IMODE(file.stat().st_mode)
    file.chmod(mode | stat.S_IRUSR | stat.S_IWUSR)
    flip_bit(file, random.randrange(file.stat().st_size), random.randrange(_BITS))
    file.chmod(mode)


def _write(file: Path, content: bytes) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    file.chmod(mode | stat.S_IRUSR | stat.S_IWUSR)
    file.write_bytes(content)
    file.chmod(mode)


def _truncate(_directory: Path, files: Sequence[Path], random: Random) -> None:
    file = _filled(files, random)
    _write(file, file.read_bytes()[: random.randrange(file.stat().st_size)])


def _append(_directory: Path, files: Sequence[Path], random: Random) -> None:
    file = random.choice(files)
    _write(file, file.read_bytes() + b"\n")


def _make_empty(_directory: Path, files: Sequence[Path], random: Random) -> None:
    _write(_filled(files, random), b"")


def _lose(_directory: Path, files: Sequence[Path], random: Random) -> None:
    random.choice(files).unlink()


def _add(directory: Path, _files: Sequence[Path], _random: Random) -> None:
    (directory / "stranger").write_bytes(b"")


def _open_to_all(_directory: Path, files: Sequence[Path], random: Random) -> None:
    file = random.choice(files)
    file.chmod(stat.S_IMODE(file.stat().st_mode) ^ stat.S_IROTH)


def _swap(_directory: Path, files: Sequence[Path], _random: Random) -> None:
    one = files[0]
    other = next(file for file in files if file.read_bytes() != one.read_bytes())
    first, second = one.read_bytes(), other.read_bytes()
    _write(one, second)
    _write(other, first)


def _link(directory: Path, files: Sequence[Path], random: Random) -> None:
    """Put a link in the place of a file, to the same bytes elsewhere."""
    file = random.choice(files)
    elsewhere = directory.with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


_HARMS: Final[Mapping[str, tuple[Harm, Callable[[Sequence[Path]], str]]]] = {
    "flip-a-bit": (_flip_bit, _if_filled),
    "truncate": (_truncate, _if_filled),
    "append-a-line": (_append, _always),
    "make-empty": (_make_empty, _if_filled),
    "lose-a-file": (_lose, _always),
    "add-a-file": (_add, _always),
    "open-to-others": (_open_to_all, _always),
    "swap-two-files": (_swap, _if_two_differ),
    "put-a-link": (_link, _always),
}
