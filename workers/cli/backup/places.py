"""Which vault a verb looks into: one of the crew's settings, or one of a recovery kit."""

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import log_to_stderr
from workers.cli.output import CliError, ExitCode
from workers.settings import load_settings, secret_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.backups.kit import Kit
    from tasks.backups.operations.vaults import OpenVault, VaultName

KitFile = Annotated[
    Path | None, typer.Option("--kit", metavar="FILE", help="Open the vault with this recovery kit, and nothing else.")
]
VaultChoice = Annotated[str, typer.Option("--vault", help="Which vault: primary or second.")]

_ENGINE = "restic"


@contextmanager
def opened_vault(data_dir: Path | None, kit_file: Path | None, name: str) -> "Iterator[OpenVault]":
    """Open a vault during the block; with a kit no data directory is looked at.

    Raises:
        CliError: there is no such vault, or the kit cannot be read.
        PermanentError: the vault cannot be opened; the text says what to do.
    """
    from tasks.backups.operations import vault_from_kit, vault_of

    vault_name = _checked(name)
    if kit_file is None:
        settings = load_settings(data_dir)  # the crew and its database may be what was lost
        log_to_stderr(secret_texts(settings))
        yield vault_of(settings.backups.options(settings.data_dir), vault_name)
        return
    kit = read_kit(kit_file)
    log_to_stderr(frozenset(text for vault in kit.vaults for text in (vault.password, *vault.environment.values())))
    with (
        tempfile.TemporaryDirectory(prefix="nightcrew-") as private,
        vault_from_kit(kit, Path(private), name=vault_name, engine=_ENGINE) as opened,
    ):
        yield opened


def read_kit(path: Path) -> "Kit":
    """Read a recovery kit.

    Raises:
        CliError: the file cannot be read, or others may read it.
        UnreadableKitError: it is no kit.
    """
    from tasks.backups.kit import Kit

    try:
        if path.stat().st_mode & 0o077:
            msg = f"others may read {path}"
            raise CliError(msg, hint=f"chmod 600 {path}", code=ExitCode.USAGE)
        return Kit.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the recovery kit cannot be read: {error}"
        raise CliError(msg, code=ExitCode.USAGE) from error


def _checked(name: str) -> "VaultName":
    from tasks.backups.operations.vaults import VAULT_NAMES

    for known in VAULT_NAMES:
        if known == name:
            return known
    msg = f"no vault {name!r}"
    raise CliError(msg, hint=f"one of {', '.join(VAULT_NAMES)}", code=ExitCode.USAGE)
