"""A process that takes a backup, and waits to be killed once the vault has it and nobody has written it down."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nightcrew import _redis
from tasks.backups.operations.taking import backup_for, order_for
from tasks.backups.store.cached import MemberCache
from tests.integration.tasks.backups.crew import FixedAttempt, options_in, runtime_of
from tests.support.databases import opened_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.manifest import Manifest
    from tasks.backups.points import RestorePoint

STORED = "the vault has it"


class WaitingMembers(MemberCache):
    """Waits for the end where the stage is still there."""

    def keep(self, manifest: Manifest, stage: Path, points: Sequence[RestorePoint]) -> None:
        del manifest, stage, points
        print(STORED, flush=True)  # noqa: T201  the test reads it
        signal.pause()


def main(database_url: str, redis_url: str, directory: Path, run_id: str) -> None:
    """Take a full backup of a crew."""
    options = options_in(directory)
    with opened_engine(database_url) as engine:
        runtime = runtime_of(engine, _redis.connect(redis_url, 5.0), options, FixedAttempt(run_id))
        backup = backup_for(runtime, options, profile="default")
        members = WaitingMembers(options.directory / "pages", backup.vault, lambda _: ())
        replace(backup, members=members).take(order_for(runtime, options, profile="default", kind="full"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
