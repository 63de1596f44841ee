"""Everything the crew does by the clock (UTC)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from nightcrew.messages import (
    CollectAccess,
    CopyToSecondVault,
    DrainUsage,
    DrillRestore,
    PruneVault,
    ReconcileLedger,
    RunFullBackup,
    RunIncrementalBackup,
    VerifyVault,
)
from schedules.entries import Entry, by_name

if TYPE_CHECKING:
    from collections.abc import Mapping

ENTRIES: Final = (
    # Doorbells ask for most drains; this one is for those that were lost on the way.
    Entry(
        name="usage-drain",
        cron="* * * * *",
        message=DrainUsage(),
        catch_up="none",
        grace=timedelta(minutes=5),
        max_duration=timedelta(minutes=10),
    ),
    # Takes in what apps asked for, restarts what stopped half-way, and finds the slots that beat missed.
    Entry(
        name="ledger-reconcile",
        cron="* * * * *",
        message=ReconcileLedger(),
        catch_up="none",
        grace=timedelta(minutes=5),
        max_duration=timedelta(minutes=10),
    ),
    # Nobody rings for it: counters of the cache may be some minutes old.
    Entry(
        name="ttl-collect",
        cron="*/10 * * * *",
        message=CollectAccess(),
        catch_up="none",
        grace=timedelta(minutes=15),
        max_duration=timedelta(minutes=10),
    ),
)

# With `backups.enabled`. Nights are UTC: each of them ends with the vault checked and what is too old let go.
BACKUP_ENTRIES: Final = (
    Entry(
        name="backup-weekly",
        cron="30 1 * * 0",
        message=RunFullBackup(),
        catch_up="last",
        grace=timedelta(hours=1),
        max_duration=timedelta(hours=6),
    ),
    # A missed night is made up for as soon as there is a crew again: the newest of them alone, because a backup of
    # now stands for all of them.
    Entry(
        name="backup-nightly",
        cron="30 1 * * 1-6",
        message=RunIncrementalBackup(),
        catch_up="last",
        grace=timedelta(hours=1),
        max_duration=timedelta(hours=3),
    ),
    Entry(
        name="vault-verify",
        cron="30 4 * * *",
        message=VerifyVault(),
        catch_up="last",
        grace=timedelta(hours=2),
        max_duration=timedelta(hours=3),
    ),
    Entry(
        name="vault-prune",
        cron="30 5 * * *",
        message=PruneVault(),
        catch_up="last",
        grace=timedelta(hours=2),
        max_duration=timedelta(hours=2),
    ),
)

# With `backups.enabled`. Fulls are drilled when they are taken; these prove what is most in need of it.
DRILL_ENTRIES: Final = (
    Entry(
        name="drill-weekly",
        cron="30 2 * * 1",
        message=DrillRestore(),
        catch_up="last",
        grace=timedelta(hours=2),
        max_duration=timedelta(hours=6),
    ),
    # As after the loss of the machine: on the first day of the month, when the night is through.
    Entry(
        name="drill-cold-monthly",
        cron="30 6 1 * *",
        message=DrillRestore(cold=True),
        catch_up="last",
        grace=timedelta(hours=2),
        max_duration=timedelta(hours=6),
    ),
)

# With `backups.hourly`: between the nightly ones, of the same chain.
HOURLY_BACKUP_ENTRIES: Final = (
    Entry(
        name="backup-hourly",
        cron="10 * * * *",
        message=RunIncrementalBackup(),
        catch_up="last",
        grace=timedelta(minutes=20),
        max_duration=timedelta(minutes=50),
    ),
)

# With a `backups.second_vault`.
SECOND_VAULT_ENTRIES: Final = (
    Entry(
        name="vault-copy",
        cron="30 3 * * *",
        message=CopyToSecondVault(),
        catch_up="last",
        grace=timedelta(hours=2),
        max_duration=timedelta(hours=6),
    ),
)

EVERY_ENTRY: Final = by_name(*ENTRIES, *BACKUP_ENTRIES, *DRILL_ENTRIES, *HOURLY_BACKUP_ENTRIES, *SECOND_VAULT_ENTRIES)
"""What any crew may have."""


def timetable_of(*, backups: bool, hourly: bool, second_vault: bool) -> Mapping[str, Entry]:
    """Give the timetable of a crew that does what its settings say."""
    chosen = [
        *ENTRIES,
        *((*BACKUP_ENTRIES, *DRILL_ENTRIES) if backups else ()),
        *(HOURLY_BACKUP_ENTRIES if backups and hourly else ()),
        *(SECOND_VAULT_ENTRIES if backups and second_vault else ()),
    ]
    return by_name(*chosen)
