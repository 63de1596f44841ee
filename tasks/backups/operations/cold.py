"""Restoring a point as on a bare machine: in a fresh process, with the recovery kit and the vault and nothing else.

The kit that lies in the safe is on paper, and no machine can read it. So it is made anew of the settings, written as
text, and the other process reads that text as a stranger would: it has no settings, no database, no cache, no variable
and no credential beside it, and a fence around it (`store/drills/fence.py`) keeps it away from the source.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.drill import NotAsStoredError, Restored
from tasks.backups.manifest import FILE_NAME, Manifest
from tasks.backups.operations.kits import make_kit
from tasks.backups.operations.listing import list_vault
from tasks.backups.operations.vaults import backup_options, limits_of, vault_of
from tasks.backups.staging import Link
from tasks.backups.store.drills.cold import COMMAND, ask_child, source_paths
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.drills.drill import Room
    from tasks.backups.phases import Phases
    from tasks.backups.points import RestorePoint
    from tasks.runtime import Runtime

_ERRORS: Final = {
    "not as stored": NotAsStoredError,
    "permanent": PermanentError,
    "transient": TransientError,
    "touched": PermanentError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdRestorer:
    """Restores points without the crew. See `tasks.backups.drills.drill.Restorer` for what it promises."""

    runtime: Runtime
    command: Sequence[str] = COMMAND
    """Starts the process that restores (`cold_child.py`)."""

    def restore(self, point: RestorePoint, room: Room, phases: Phases) -> Restored:
        """Restore a point into a room; looking for the point in the vault, with an empty cache, is part of it.

        Raises:
            NotAsStoredError: something is not what was stored.
            PermanentError: the kit opens nothing, the process broke, or it went for the source.
            TransientError: the vault was in the way, or the process was killed.
        """
        began_s = time.monotonic()
        with phases.phase("fetch") as progress:
            answer = ask_child(
                self.command,
                lambda: self._order(point, room),
                room,
                limits=limits_of(backup_options(self.runtime)),
                tick=lambda: progress("cold restore", 0),
            )
        whole_s = time.monotonic() - began_s
        if (outcome := answer["outcome"]) != "restored":
            raise _ERRORS[outcome](answer["text"])
        manifests = [Manifest.from_json(text.encode()) for text in answer["chain"]]
        links = [Link(manifest=one, directory=room.fetched / one.point) for one in manifests]
        manifest = Manifest.from_json((room.restored / FILE_NAME).read_bytes())
        apply_s = float(answer["apply_s"])
        return Restored(manifest=manifest, links=links, fetch_s=max(whole_s - apply_s, 0.0), apply_s=apply_s)

    def is_there(self, point: RestorePoint) -> bool:
        """Say whether the vault still has the point."""
        contents = list_vault(vault_of(backup_options(self.runtime)))
        return any(one.id == point.id for one in contents.points)

    def _order(self, point: RestorePoint, room: Room) -> bytes:
        """Write the order. It is secret: it has the kit."""
        options, runtime = backup_options(self.runtime), self.runtime
        tools = options.postgresql_tools
        order = {
            "kit": make_kit(runtime).to_json(),
            "point": point.id,
            "room": str(room.directory),
            "engine": options.engine,
            "postgresql_tools": None if tools is None else str(tools),
            "closed": source_paths(options, runtime.engine, runtime.redis),
        }
        return json.dumps(order).encode()
