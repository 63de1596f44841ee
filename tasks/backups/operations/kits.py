"""Making the recovery kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.backups.kit import Kit, compose_kit
from tasks.backups.operations.vaults import backup_options, ensure_password, tools_of, vault_of
from tasks.backups.store.keys import read_crew, read_password

if TYPE_CHECKING:
    from tasks.runtime import Runtime


def make_kit(runtime: Runtime) -> Kit:
    """Put the recovery kit of this crew together. It is secret.

    The passwords are made if there are none yet, so that the kit can be in the safe before the first backup.

    Raises:
        PermanentError: the settings have no backups, or a password cannot be read; the text says what to do.
    """
    options = backup_options(runtime)
    ensure_password(runtime)
    ensure_password(runtime, "second")
    places = {"primary": options.vault, "second": options.second_vault}
    passwords = {name: read_password(place.password_file) for name, place in places.items() if place is not None}
    tools = tools_of(vault_of(options).vault)
    database = runtime.engine.dialect.name
    crew = None if options.crew_file is None else read_crew(options.crew_file)
    return compose_kit(options, passwords, crew=crew, database=database, tools=tools, now=runtime.clock())
