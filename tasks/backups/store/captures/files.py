"""Files that are taken as they are: configuration, and the model with its manifest.

Symbolic links are followed, because configuration often lies behind some: what is taken is what a reader of the path
gets. Nothing but a plain file is taken, and never the password of a vault, whatever name it is given by.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass
from functools import partial
from io import FileIO
from typing import TYPE_CHECKING, Final, Literal

import structlog

from tasks.backups.manifest import ConfigFile, Member
from tasks.backups.staging import FilesCapture
from tasks.backups.store.captures.private_files import copy_hashed, new_file
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from tasks.backups.staging import Stage

MODEL_COMPANIONS: Final = (".manifest.json", ".manifest.sig", ".skops", ".history.parquet")
"""What lies beside `model.pkl`: its manifest with signature, the served format, and the past of its predictions."""

_TRIES: Final = 5
_PAUSE_S: Final = 0.2
_LONGEST_NAME: Final = 80

_log = structlog.get_logger(__name__)


class FileNotTakenError(PermanentError):
    """A file cannot be part of a backup; the text names it, and the setting that it stands in."""


def capture_files(
    *, config_files: Sequence[Path], model_file: Path | None, password_files: Collection[Path], stage: Stage
) -> FilesCapture:
    """Take files: `config/<name>` and `model/<name>` then lie in the stage.

    A file that changes while it is read is read again, and the model and its manifest are taken together: when one of
    them changes meanwhile, all are read again. A model without a manifest is taken, and the log says so: whether it is
    trusted is decided by whoever loads it.

    Raises:
        FileNotTakenError: a file is missing, is no plain file, may not be read, or is the password of a vault; or the
            model is empty.
        TransientError: a file does not stop changing.
    """
    names = _Names()
    groups = [[_config(path, names)] for path in dict.fromkeys(config_files)]
    if model_file is not None:
        groups.append(_model(model_file, names))
    copy = _Copy(stage=stage, secrets=_identities(password_files))
    taken = [one for group in groups for one in copy.group(group)]
    return FilesCapture(
        members=tuple(member for member, _ in taken),
        expected=tuple(file for _, file in taken),
        size_bytes=sum(member.size_bytes for member, _ in taken),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A file that is to be taken."""

    path: Path
    part: Literal["config", "model"]
    member: str
    setting: str
    may_be_empty: bool = True


class _Names:
    """Gives each file a name of its own in the snapshot, also on disks that do not tell `A` from `a`."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, part: str, path: Path) -> str:
        """Name a file after its last component, with a number if that is taken."""
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", os.fsencode(path.name).decode(errors="replace"))
        if not plain[:1].isalnum():
            plain = f"dot{plain}" if plain.startswith(".") else f"file{plain}"
        stem, suffix = os.path.splitext(plain[-_LONGEST_NAME:].lstrip("_.-") or "file")  # noqa: PTH122  of a name, not a path
        name, number = f"{part}/{stem}{suffix}", 1
        while name.casefold() in self._given:
            number += 1
            name = f"{part}/{stem}-{number}{suffix}"
        self._given.add(name.casefold())
        return name


def _config(path: Path, names: _Names) -> _Source:
    return _Source(path=path, part="config", member=names.give("config", path), setting="backups.config_files")


def _model(path: Path, names: _Names) -> list[_Source]:
    beside = [path.with_name(f"{path.stem}{ending}") for ending in MODEL_COMPANIONS]
    companions = [companion for companion in beside if companion.exists()]
    if beside[0] not in companions:
        _log.warning("backups.model_without_manifest", model=str(path), wanted=str(beside[0]))
    return [
        _Source(
            path=one,
            part="model",
            member=names.give("model", one),
            setting="backups.model_file",
            may_be_empty=False,
        )
        for one in (path, *companions)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """Copies files to the stage."""

    stage: Stage
    secrets: Collection[tuple[int, int]]
    """Device and inode of the files that are never taken."""

    def group(self, sources: Sequence[_Source]) -> list[tuple[Member, ConfigFile]]:
        """Take files of one moment."""
        for attempt in range(_TRIES):
            if attempt:
                self.stage.progress("copy files", 0)
                time.sleep(_PAUSE_S * attempt)
            before = [_state(source) for source in sources]
            taken = [self._one(source) for source in sources]
            if [_state(source) for source in sources] == before == [state for _, _, state in taken]:
                return [(member, file) for member, file, _ in taken]
        names = " and ".join(str(source.path) for source in sources)
        msg = f"{names} did not stay the same while being read, {_TRIES} times in a row: tried again later"
        raise TransientError(msg)

    def _one(self, source: _Source) -> tuple[Member, ConfigFile, tuple[int, ...]]:
        target = self.stage.directory / source.member
        target.parent.mkdir(mode=0o700, exist_ok=True)
        target.unlink(missing_ok=True)
        with _opened(source) as file:
            about = os.fstat(file.fileno())
            self._check(source, about)
            with new_file(target) as copy:
                tell = partial(self.stage.progress, "copy files")
                sha256, length = copy_hashed(file, copy, size_bytes=about.st_size, tell=tell)
        if not length and not source.may_be_empty:
            raise _not_taken(source, "is empty")
        member = Member(name=source.member, part=source.part, size_bytes=length, sha256=sha256)
        origin = os.fsencode(source.path).decode(errors="replace")
        taken = ConfigFile(member=source.member, part=source.part, origin=origin, mode=stat.S_IMODE(about.st_mode))
        return member, taken, _state_of(about)

    def _check(self, source: _Source, about: os.stat_result) -> None:
        if (about.st_dev, about.st_ino) in self.secrets:
            raise _not_taken(
                source,
                "is the password of a vault, which is worth nothing inside it: keep it by `nightcrew backup kit`",
            )
        if not stat.S_ISREG(about.st_mode):
            raise _not_taken(source, "is no plain file")


def _opened(source: _Source) -> FileIO:
    """Open a file; a pipe does not keep us waiting."""
    try:
        return FileIO(source.path, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))
    except OSError as error:
        raise _unreadable(source, error) from error


def _state(source: _Source) -> tuple[int, ...]:
    """Give what changes when a file is written or another one takes its place."""
    try:
        return _state_of(source.path.stat())
    except OSError as error:
        raise _unreadable(source, error) from error


def _state_of(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _identities(paths: Collection[Path]) -> frozenset[tuple[int, int]]:
    found = set()
    for path in paths:
        try:
            about = path.stat()
        except OSError:  # one that is not there cannot be taken by another name
            continue
        found.add((about.st_dev, about.st_ino))
    return frozenset(found)


def _unreadable(source: _Source, error: OSError) -> PermanentError:
    if isinstance(error, FileNotFoundError):
        return _not_taken(source, "is not there")
    if isinstance(error, IsADirectoryError):
        return _not_taken(source, "is a directory")
    return _not_taken(source, f"cannot be read: {error.strerror}")


def _not_taken(source: _Source, why: str) -> FileNotTakenError:
    return FileNotTakenError(f"{source.path} {why}; it is named by the setting {source.setting}")
