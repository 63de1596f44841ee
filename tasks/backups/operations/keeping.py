"""Looking after the vaults: checking, pruning, copying, and the points that an operator holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.backups import copying, pruning, verifying
from tasks.backups.assessment import assess
from tasks.backups.choosing import choose_point
from tasks.backups.copying import Copy, Side
from tasks.backups.operations.drilling import forget_drills
from tasks.backups.operations.listing import list_points
from tasks.backups.operations.sources import release_sources
from tasks.backups.operations.vaults import backup_options, ensure_password, vault_of
from tasks.backups.phases import PartOfTeller, Phases
from tasks.backups.pruning import Prune
from tasks.backups.store import listing, points, watching
from tasks.backups.store.book import SqlBook, SqlSecondBook
from tasks.backups.vaults import VaultDamagedError
from tasks.backups.verifying import Verify
from tasks.transactions import begin_write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.backups.adoption import Judge
    from tasks.backups.operations.vaults import OpenVault, VaultName
    from tasks.backups.phases import Teller
    from tasks.backups.points import RestorePoint
    from tasks.runtime import BackupOptions, RetentionOptions, Runtime


def verify_vaults(runtime: Runtime, *, slices: int) -> dict[str, Any]:
    """Check every vault, and read the next of so many slices of each; give what is to be told, by vault.

    Raises:
        VaultDamagedError: what one of them stores cannot be read back.
        VaultError: one of them could not be looked at.
    """
    options = backup_options(runtime)
    results: dict[str, Any] = {}
    damage: list[VaultDamagedError] = []
    for name, teller in _each(runtime):
        opened = vault_of(options, name)
        verify = Verify(
            vault=opened.vault,
            manifests=opened.manifests,
            book=_book(runtime, name),
            judge=_judge(options),
            clock=runtime.clock,
            phases=Phases(teller, verifying.PHASES),
            elsewhere=partial(_elsewhere, runtime, name),
        )
        try:
            results[name] = verify.run(slices)
        except VaultDamagedError as error:
            damage.append(error)  # the other vault matters the more now
    watching.forget_old(runtime.engine, now=runtime.clock())
    if damage:
        raise damage[0]
    return results


def prune_vaults(runtime: Runtime, *, dry_run: bool) -> dict[str, Any]:
    """Delete from every vault what its retention lets go, or only say what that is; give what is to be told, by vault.

    The database, too, lets go what it keeps for profiles that are no more, and what drills have found long ago.

    Raises:
        UnsafeRetentionError: the deletions would take what must stay; nothing was deleted.
        VaultError: one of the vaults was in the way.
    """
    options = backup_options(runtime)
    results: dict[str, Any] = {}
    for name, teller in _each(runtime):
        opened = vault_of(options, name)
        prune = Prune(
            vault=opened.vault,
            manifests=opened.manifests,
            book=_book(runtime, name),
            judge=_judge(options),
            rules=_rules(options, name),
            clock=runtime.clock,
            phases=Phases(teller, pruning.PHASES),
        )
        results[name] = prune.run(dry_run=dry_run)
    if not dry_run:
        release_sources(runtime, options)
        forget_drills(runtime)
    return results


def copy_points(runtime: Runtime) -> dict[str, Any]:
    """Copy to the second vault what it does not have yet and would keep; give what is to be told.

    Raises:
        PermanentError: there is no second vault; the text names the setting.
        VaultError: one of the vaults was in the way; what was copied until then stays.
    """
    options = backup_options(runtime)
    ensure_password(runtime, "second")
    second, first = vault_of(options, "second"), vault_of(options)
    copy = Copy(
        first=_side(first),
        first_book=_book(runtime, "primary"),
        second=_side(second),
        second_book=_book(runtime, "second"),
        judge=_judge(options),
        rules=_rules(options, "second"),
        clock=runtime.clock,
        phases=Phases(runtime.attempt, copying.PHASES),
    )
    return copy.run()


def hold_point(runtime: Runtime, wanted: str, *, is_held: bool) -> RestorePoint:
    """Keep a point whatever the retention says, or no longer; give it.

    Raises:
        PointNotFoundError: no point, or more than one, is meant.
    """
    point = choose_point(list_points(runtime), wanted)
    with begin_write(runtime.engine) as connection:
        points.hold(connection, point.id, is_held=is_held)
    return choose_point(list_points(runtime), point.id)


def accept_point(runtime: Runtime, wanted: str, *, reason: str) -> RestorePoint:
    """Say that a suspect point is right after all, and why; give it.

    Raises:
        PointNotFoundError: no point, or more than one, is meant.
        ValueError: there is no reason.
    """
    point = choose_point(list_points(runtime), wanted)
    with begin_write(runtime.engine) as connection:
        points.accept(connection, [point.id], reason=reason)
    return choose_point(list_points(runtime), point.id)


def _each(runtime: Runtime) -> Iterator[tuple[VaultName, Teller]]:
    """Give each vault that has points, or is to have them, and who hears how far the work on it is."""
    names: list[VaultName] = ["primary"]
    if backup_options(runtime).second_vault is not None and listing.newest(runtime.engine, vault="second", limit=1):
        names.append("second")
    for number, name in enumerate(names):
        yield name, PartOfTeller(whole=runtime.attempt, number=number, of=len(names))


def _elsewhere(runtime: Runtime, here: VaultName) -> dict[str, str]:
    """Give by point the other vault that has it."""
    there = "second" if here == "primary" else "primary"
    return {point.id: there for point in listing.every(runtime.engine, vault=there)}


def _book(runtime: Runtime, name: VaultName) -> SqlBook:
    make = SqlBook if name == "primary" else SqlSecondBook
    return make(runtime.engine, name, runtime.attempt, runtime.clock)


def _side(opened: OpenVault) -> Side:
    return Side(vault=opened.vault, manifests=opened.manifests)


def _judge(options: BackupOptions) -> Judge:
    return partial(assess, shrink_share=options.shrink_share)


def _rules(options: BackupOptions, name: VaultName) -> Mapping[str, RetentionOptions]:
    return {
        profile: one.retention if name == "primary" else one.second_retention
        for profile, one in options.profiles.items()
    }
