"""A crew of small programs in a process of its own: `python -m … DATA_DIR CODE [CODE…]`, one member per code.

Prints its events, and ends with 0 after an orderly stop.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.workers.supervisor.scripts import script_spec
from workers.settings import Settings, load_settings
from workers.supervisor.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.supervisor.child import ChildSpec, CrewEvent


def main(data_dir: Path, codes: list[str]) -> None:
    """Run until a signal comes."""

    def members(settings: Settings, env: Mapping[str, str]) -> list[ChildSpec]:
        names = [f"worker-{number}" for number in range(1, len(codes))]
        log = settings.data_dir / "logs" / "members.log"
        return [
            script_spec(settings.data_dir, name=name, code=code, env=env, argument=name, log=log, wait_s=0.5)
            for name, code in zip([*names, "beat"], codes, strict=True)
        ]

    settings = load_settings(data_dir)
    with Crew(settings, with_flower=False, workers=members, listener=_print) as crew:
        crew.start()
        crew.wait_ready()
        crew.run()


def _print(event: CrewEvent) -> None:
    sys.stdout.write(f"{event.kind} {event.name}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
