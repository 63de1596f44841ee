"""Taking a restore point."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from nightcrew._uuid7 import uuid7
from nightcrew.messages import DrillRestore
from tasks.backups import backup
from tasks.backups.assessment import assess
from tasks.backups.backup import Backup, Order
from tasks.backups.operations.proving import measured_of
from tasks.backups.operations.sources import CrewSources, kept_members
from tasks.backups.operations.vaults import backup_options, ensure_password, tools_of, vault_of
from tasks.backups.phases import Phases
from tasks.backups.store.book import SqlBook
from tasks.backups.store.cached import MemberCache
from tasks.backups.store.stages import StageDirectories
from tasks.errors import PermanentError
from tasks.runtime import NoAttempt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.backups.backup import Taken
    from tasks.backups.manifest import Part
    from tasks.backups.points import Kind
    from tasks.backups.storage import Measure
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
        TransientError: the database is away.
    """
    ensure_password(runtime)
    opened = vault_of(options)
    measured = measured_of(runtime, profile)
    return Backup(
        vault=opened.vault,
        manifests=opened.manifests,
        book=_book(runtime, options),
        sources=CrewSources(runtime=runtime, options=options, profile=profile),
        stages=StageDirectories(options.directory / "staging"),
        members=MemberCache(options.directory / "pages", opened.vault, kept_members),
        judge=partial(assess, shrink_share=options.shrink_share, measured=measured),
        measured=measured,
        options=options,
        clock=runtime.clock,
        phases=Phases(runtime.attempt, backup.PHASES),
        tools=tools_of(opened.vault),
    )


class DrilledBook(SqlBook):
    """Asks for a drill of each full, by a child of the run, before the full is written down.

    A worker that is killed in between is followed by one that asks again, and the drill waits for the point.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.engine, "primary", runtime.attempt, runtime.clock)
        self._ask = runtime.attempt.spawn

    def record(self, taken: Taken, measure: Measure, result: Mapping[str, Any]) -> None:
        """Write down a point, and have it drilled if it is a full."""
        if taken.point.kind == "full":
            self._ask(DrillRestore(point=taken.point.id), key="drill")
        super().record(taken, measure, result)


def _book(runtime: Runtime, options: BackupOptions) -> SqlBook:
    if options.drill_after_full and not isinstance(runtime.attempt, NoAttempt):  # without a run there are no children
        return DrilledBook(runtime)
    return SqlBook(runtime.engine, "primary", runtime.attempt, runtime.clock)


def _profile(options: BackupOptions, name: str) -> ProfileOptions:
    try:
        return options.profiles[name]
    except KeyError:
        msg = f"there is no profile {name!r} of backups; backups.profiles has {', '.join(sorted(options.profiles))}"
        raise PermanentError(msg) from None
