"""Opening the vaults that the settings name, and vaults of a recovery kit."""

from __future__ import annotations

import platform
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Literal, get_args

from tasks.backups.staging import Limits
from tasks.backups.store import listing
from tasks.backups.store.cached import ManifestCache
from tasks.backups.store.keys import (
    check_password_file,
    make_crew_file,
    make_password_file,
    read_crew,
    write_password,
)
from tasks.backups.store.restic import ResticVault
from tasks.backups.store.stages import make_private
from tasks.backups.vaults import VaultPlace
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.backups.kit import Kit
    from tasks.backups.vaults import Vault
    from tasks.runtime import BackupOptions, Runtime, VaultOptions

VaultName = Literal["primary", "second"]

VAULT_NAMES: Final[tuple[VaultName, ...]] = get_args(VaultName)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVault:
    """A vault, and what is known of it on this machine."""

    vault: Vault
    manifests: ManifestCache


def backup_options(runtime: Runtime) -> BackupOptions:
    """Give the settings of the backups.

    Raises:
        PermanentError: this process takes none.
    """
    if runtime.backups is None:
        msg = "this crew takes no backups: set backups.enabled to true, and start it again"
        raise PermanentError(msg)
    return runtime.backups


def vault_of(options: BackupOptions, name: VaultName = "primary") -> OpenVault:
    """Open a vault of the settings; nothing is asked of it yet.

    Raises:
        PermanentError: the settings name no such vault, others may read its password, or the crew's name is lost.
    """
    place = options.vault if name == "primary" else options.second_vault
    if place is None:
        msg = "there is no second vault: name its place in backups.second_vault.location"
        raise PermanentError(msg)
    check_password_file(place.password_file)
    crew = None if options.crew_file is None else read_crew(options.crew_file)
    return _open(_place(name, place, crew), options.directory, engine=options.engine, limits=limits_of(options))


def ensure_password(runtime: Runtime, name: VaultName = "primary") -> None:
    """Make the password of a vault that has no points yet; for another one, a new password would hide the loss.

    So it is with the name of the crew: under a new one it would not know the points that it has.

    Raises:
        PasswordFileError: it cannot be written.
        TransientError: the database is away.
    """
    options = backup_options(runtime)
    place = options.vault if name == "primary" else options.second_vault
    if place is not None and not listing.newest(runtime.engine, vault=name, limit=1):
        make_password_file(place.password_file)
    if options.crew_file is not None and not any(
        listing.newest(runtime.engine, vault=one, limit=1) for one in VAULT_NAMES
    ):
        make_crew_file(options.crew_file)


@contextmanager
def vault_from_kit(kit: Kit, directory: Path, *, name: VaultName = "primary", engine: str) -> Iterator[OpenVault]:
    """Open a vault that a recovery kit names, and keep its password in a private directory during the block.

    Raises:
        UnreadableKitError: the kit names no such vault.
    """
    found = kit.vault(name)
    private = directory / f"kit-{secrets.token_hex(4)}"
    make_private(private)
    try:
        password_file = private / "password"
        write_password(password_file, found.password)
        place = VaultPlace(
            name=name,
            location=found.location,
            password_file=password_file,
            environment=found.environment,
            is_append_only=found.is_append_only,
            crew=kit.crew,
        )
        yield _open(place, private, engine=engine, limits=Limits(nice=0, idle_io=False))
    finally:
        shutil.rmtree(private, ignore_errors=True)


def tools_of(vault: Vault) -> dict[str, str]:
    """Give the versions of what is at work, by name."""
    program, _, number = vault.engine().partition(" ")
    return {"nightcrew": version("nightcrew-workers"), "python": platform.python_version(), program: number}


def limits_of(options: BackupOptions) -> Limits:
    """Say how much of the machine may be taken."""
    return Limits(
        nice=options.nice,
        idle_io=options.idle_io,
        upload_kib_s=options.upload_kib_s,
        download_kib_s=options.download_kib_s,
    )


def _place(name: VaultName, options: VaultOptions, crew: str | None) -> VaultPlace:
    return VaultPlace(
        name=name,
        location=options.location,
        password_file=options.password_file,
        environment=options.environment,
        is_append_only=options.is_append_only,
        crew=crew,
    )


def _open(place: VaultPlace, directory: Path, *, engine: str, limits: Limits) -> OpenVault:
    vault = ResticVault(place, program=engine, cache=directory / "cache" / place.name, limits=limits)
    return OpenVault(vault=vault, manifests=ManifestCache(directory / "manifests" / place.name, vault))
