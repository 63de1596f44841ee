"""The verbs that hand a job of the backups over, and follow it to its end."""

from typing import Annotated

import typer

from workers.cli.backup.handing_over import hand_over
from workers.cli.options import AsJson, DataDir
from workers.cli.output import ExitCode

Profile = Annotated[str, typer.Option("--profile", help="What is taken and how long it is kept: see the settings.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Hand the job over, and do not wait for its end.")]


def full(
    profile: Profile = "default", no_wait: NoWait = False, data_dir: DataDir = None, json: AsJson = False
) -> ExitCode:
    """Take a restore point that needs no other one. Exit 1 when it fails.

    JSON: {"id", "kind", "state", "result": {"point", "kind", "reason", …}?, "error"?}; `id` is the job's, the state
    `queued` with --no-wait
    """
    from nightcrew.messages import RunFullBackup

    return hand_over(lambda: RunFullBackup(profile=profile), data_dir, no_wait=no_wait, json=json)


def incremental(
    profile: Profile = "default", no_wait: NoWait = False, data_dir: DataDir = None, json: AsJson = False
) -> ExitCode:
    """Take a restore point of what has changed since the newest one; it becomes a full one where that is safer.

    JSON: as `backup full` gives it; `result.reason` says why it is of the kind it is
    """
    from nightcrew.messages import RunIncrementalBackup

    return hand_over(lambda: RunIncrementalBackup(profile=profile), data_dir, no_wait=no_wait, json=json)


def differential(
    profile: Profile = "default", no_wait: NoWait = False, data_dir: DataDir = None, json: AsJson = False
) -> ExitCode:
    """Take a restore point of what has changed since the full one of the chain: larger, and restored in two steps.

    JSON: as `backup full` gives it
    """
    from nightcrew.messages import RunIncrementalBackup

    return hand_over(lambda: RunIncrementalBackup(profile=profile, base="full"), data_dir, no_wait=no_wait, json=json)


def verify(
    slices: Annotated[
        int, typer.Option("--slices", min=0, max=256, help="Read one of so many slices of the data; 1: all, 0: none.")
    ] = 30,
    no_wait: NoWait = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Check the structure of the vault, and read a slice of what it stores. Exit 1 when it is damaged.

    JSON: as `backup full` gives it
    """
    from nightcrew.messages import VerifyVault

    return hand_over(lambda: VerifyVault(slices=slices), data_dir, no_wait=no_wait, json=json)


def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be let go, and why; delete nothing.")
    ] = False,
    no_wait: NoWait = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Delete the restore points that the retention lets go. What another point needs, and what is proven last, stays.

    JSON: as `backup full` gives it
    """
    from nightcrew.messages import PruneVault

    return hand_over(lambda: PruneVault(dry_run=dry_run), data_dir, no_wait=no_wait, json=json)


def copy(no_wait: NoWait = False, data_dir: DataDir = None, json: AsJson = False) -> ExitCode:
    """Copy to the second vault what it does not have yet.

    JSON: as `backup full` gives it
    """
    from nightcrew.messages import CopyToSecondVault

    return hand_over(CopyToSecondVault, data_dir, no_wait=no_wait, json=json)
