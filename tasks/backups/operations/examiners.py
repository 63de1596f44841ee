"""Who looks at a restored point, and knows how to damage it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.backups.operations.sources import CrewAssembler
from tasks.backups.operations.vaults import backup_options, limits_of, vault_of
from tasks.backups.store.drills.chain import ChainExaminer
from tasks.backups.store.drills.files import FilesExaminer
from tasks.backups.store.drills.invariants import InvariantExaminer
from tasks.backups.store.drills.key import KeyExaminer
from tasks.backups.store.drills.model import ModelExaminer
from tasks.backups.store.drills.postgresql import PostgresqlExaminer
from tasks.backups.store.drills.redis import RedisExaminer
from tasks.backups.store.drills.sqlite import SqliteExaminer
from tasks.backups.store.drills.vault import VaultExaminer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.drills.subjects import Examiner
    from tasks.backups.operations.vaults import OpenVault
    from tasks.runtime import Runtime


def examiners_for(runtime: Runtime, opened: OpenVault | None = None) -> Sequence[Examiner]:
    """Name all of them, those of the database first; `opened` is the vault, if it is not that of the settings.

    Raises:
        PermanentError: the vault cannot be opened.
    """
    options = backup_options(runtime)
    opened = opened or vault_of(options)
    assembler = CrewAssembler(postgresql_tools=options.postgresql_tools, limits=limits_of(options))
    databases: list[Examiner] = [
        SqliteExaminer(read_whole_below_bytes=options.read_whole_below_bytes),
        PostgresqlExaminer(),
    ]
    return [
        *databases,
        RedisExaminer(),
        FilesExaminer(),
        ModelExaminer(),
        InvariantExaminer(invariants=runtime.invariants),
        ChainExaminer(assembler=assembler, examiners=databases),
        VaultExaminer(vault=opened.vault, program=options.engine),
        KeyExaminer(place=opened.vault.place, program=options.engine),
    ]
