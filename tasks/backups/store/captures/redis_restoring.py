"""Dumps of Redis servers out of a restore point: equal to what was taken, and where no server finds them by chance."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tasks.backups.quarantine import DIRECTORY, NOTE, quarantine_note
from tasks.backups.store.hashing import DamagedMemberError, check_member
from tasks.backups.store.private_redis import read_expectations

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.backups.manifest import Redis
    from tasks.backups.staging import Limits, Link, Progress


def restore_dumps(link: Link, to: Path, *, limits: Limits, progress: Progress) -> list[Path]:
    """Move the dumps of a point to `<to>/quarantine/<name>.rdb`, each proven equal, with a note that says why.

    Raises:
        DamagedMemberError: a dump is not what was taken.
        RdbDamagedError, RdbForeignError, ProgramMissingError, TransientError: see `read_expectations`.
    """
    directory = to / DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / NOTE).write_text(quarantine_note(link.manifest), encoding="utf-8")
    restored = []
    for server in link.manifest.redis:
        source = link.directory / server.member
        member = link.manifest.member(server.member)
        check_member(source, member, tick=lambda done: progress("compare dumps", done))
        check_dump(source, server, limits=limits, progress=progress)
        restored.append(directory / f"{server.name}.rdb")
        shutil.move(source, restored[-1])
    return restored


def check_dump(dump: Path, expected: Redis, *, limits: Limits, progress: Progress) -> None:
    """Load a dump and compare what is in it with what was written down when it was taken.

    Only digests of one and the same program are compared; with another one, all counts are, and the content rests on
    the hash of the file.

    Raises:
        DamagedMemberError: it holds something else; the text says what differs.
        RdbDamagedError, RdbForeignError, ProgramMissingError, TransientError: see `read_expectations`.
    """
    found = read_expectations(dump, name=expected.name, member=expected.member, limits=limits, progress=progress)
    compared = set(type(found).model_fields) - {"digest_by"}
    if found.digest_by != expected.digest_by:
        compared.remove("digest")
    differing = sorted(name for name in compared if getattr(found, name) != getattr(expected, name))
    if differing:
        msg = f"the dump of the {expected.name} is not the one that was taken: {', '.join(differing)} differ"
        raise DamagedMemberError(msg)
