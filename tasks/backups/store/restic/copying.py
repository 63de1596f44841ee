"""From one vault to another: restic decrypts what the first has, and encrypts it with the key of the second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.backups.store.restic.opening import listed, open_or_make, opened
from tasks.backups.vaults import VaultDamagedError
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tasks.backups.staging import Progress
    from tasks.backups.store.restic.program import Restic
    from tasks.backups.store.restic.saying import Listed
    from tasks.backups.vaults import VaultPlace


def copy(here: Restic, there: Restic, snapshot_ids: Collection[str], progress: Progress) -> dict[str, str]:
    """Copy what the other vault does not have yet, and give the ids there of all that were asked for.

    Raises:
        VaultDamagedError: the vault does not have all of it, or what was copied is not what was there.
        PermanentError: the two cannot be opened together.
    """
    source = _source_environment(here.place, there.place)
    # Cut like the first, so that it shares as well as that one.
    open_or_make(there, ["--copy-chunker-params"], env=source)
    wanted = _wanted(listed(here), snapshot_ids)
    known = _copies(wanted, listed(there))
    new = [one.snapshot.id for one in wanted if one.snapshot.id not in known]
    if not new:
        return known
    there.ask("points cannot be copied", ["copy", *new], env=source, tick=lambda: progress("copy", 0))
    copies = _copies(wanted, listed(there))
    for snapshot_id in new:
        progress("compare", 0)
        if snapshot_id not in copies or opened(here, snapshot_id)[1] != opened(there, copies[snapshot_id])[1]:
            msg = f"the engine says that all went well, but snapshot {snapshot_id[:8]} was not copied as it is"
            raise VaultDamagedError(msg)
    return copies


def _source_environment(source: VaultPlace, target: VaultPlace) -> dict[str, str]:
    """Give what opens the first vault while the second is written to."""
    both = source.environment.keys() & target.environment.keys()
    if clashes := sorted(name for name in both if source.environment[name] != target.environment[name]):
        msg = (
            f"the vaults {source.name} and {target.name} are opened with different {', '.join(clashes)}, and the "
            "engine takes one for both: give one pair of keys the right to both"
        )
        raise PermanentError(msg)
    return {
        **source.environment,
        "RESTIC_FROM_REPOSITORY": source.location,
        "RESTIC_FROM_PASSWORD_FILE": str(source.password_file),
    }


def _wanted(found: Sequence[Listed], snapshot_ids: Collection[str]) -> list[Listed]:
    wanted = [one for one in found if one.snapshot.id in set(snapshot_ids)]
    if missing := set(snapshot_ids) - {one.snapshot.id for one in wanted}:
        msg = f"the vault has no snapshot {', '.join(sorted(one[:8] for one in missing))} to copy"
        raise VaultDamagedError(msg)
    return wanted


def _copies(wanted: Sequence[Listed], there: Sequence[Listed]) -> dict[str, str]:
    """Give by id the copy of each that has one."""
    copies = {one.origin: one.snapshot.id for one in there}
    return {one.snapshot.id: copies[one.origin] for one in wanted if one.origin in copies}
