"""Taking a restore point."""

from __future__ import annotations

import platform
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from nightcrew._uuid7 import uuid7
from tasks.backups import backup
from tasks.backups.assessment import assess
from tasks.backups.backup import Backup, Order
from tasks.backups.operations.sources import CrewSources, kept_members
from tasks.backups.operations.vaults import backup_options, ensure_password, vault_of
from tasks.backups.phases import Phases
from tasks.backups.store.book import SqlBook
from tasks.backups.store.cached import MemberCache
from tasks.backups.store.stages import StageDirectories
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from tasks.backups.manifest import Part
    from tasks.backups.points import Kind
    from tasks.backups.vaults import Vault
    from tasks.runtime import BackupOptions, ProfileOptions, Runtime


def take_backup(runtime: Runtime, *, profile: str, kind: Kind) -> dict[str, Any]:
    """Take a restore point of a profile to the first vault; give what is to be told of it.

    The first one of a crew makes the password of the vault, and the vault.

    Raises:
        TransientError: the vault, a source or the database was in the way.
        PermanentError: it cannot succeed as things stand; the text says what to do.
        LeaseLostError: another worker may be at it; nothing of this attempt is recorded.
        CancelledError: somebody called the run off.
    """
    options = backup_options(runtime)
    order = order_for(runtime, options, profile=profile, kind=kind)
    return backup_for(runtime, options, profile=profile).take(order)


def order_for(runtime: Runtime, options: BackupOptions, *, profile: str, kind: Kind) -> Order:
    """Say what a run is to take.

    Raises:
        PermanentError: there is no such profile.
    """
    parts = _profile(options, profile).parts
    return Order(
        run_id=runtime.attempt.run_id or str(uuid7()),
        fence=runtime.attempt.fence,
        profile=profile,
        parts=cast("frozenset[Part]", parts),
        kind=kind,
    )


def backup_for(runtime: Runtime, options: BackupOptions, *, profile: str) -> Backup:
    """Put together what a run needs.

    Raises:
        PermanentError: the password of the vault cannot be trusted, or is not there.
    """
    ensure_password(runtime)
    opened = vault_of(options)
    return Backup(
        vault=opened.vault,
        manifests=opened.manifests,
        book=SqlBook(runtime.engine, "primary", runtime.attempt, runtime.clock),
        sources=CrewSources(runtime=runtime, options=options, profile=profile),
        stages=StageDirectories(options.directory / "staging"),
        members=MemberCache(options.directory / "pages", opened.vault, kept_members),
        judge=partial(assess, shrink_share=options.shrink_share),
        options=options,
        clock=runtime.clock,
        phases=Phases(runtime.attempt, backup.PHASES),
        tools=tools_of(opened.vault),
    )


def tools_of(vault: Vault) -> dict[str, str]:
    """Give the versions of what is at work, by name."""
    program, _, number = vault.engine().partition(" ")
    return {"nightcrew": version("nightcrew-workers"), "python": platform.python_version(), program: number}


def _profile(options: BackupOptions, name: str) -> ProfileOptions:
    try:
        return options.profiles[name]
    except KeyError:
        msg = f"there is no profile {name!r} of backups; backups.profiles has {', '.join(sorted(options.profiles))}"
        raise PermanentError(msg) from None
