"""A process that takes one point, to be killed: `python -m … URL TOOLS STAGE`."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.backups.staging import Stage
from tasks.backups.store.captures.postgresql import PostgresqlSource
from tests.integration.tasks.backups.postgresql.points import LIMITS, ignore


def main(url: str, tools: str, stage: str) -> None:
    PostgresqlSource(url, tools=Path(tools)).capture(Stage(directory=Path(stage), progress=ignore, limits=LIMITS))


if __name__ == "__main__":
    main(*sys.argv[1:])
