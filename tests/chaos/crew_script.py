"""A crew whose workers know the deeds: `python -m tests.chaos.crew_script --data-dir DIR --no-flower`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from workers.settings import Settings, load_settings
from workers.supervisor.crew import Crew
from workers.supervisor.members import worker_specs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.supervisor.child import ChildSpec

_OWN_APP = "workers.app"
_APP = "tests.chaos.worker_app"


def specs(settings: Settings, env: Mapping[str, str]) -> list[ChildSpec]:
    """Describe the crew's own members, with the other app."""
    return [
        replace(spec, argv=tuple(_APP if part == _OWN_APP else part for part in spec.argv))
        for spec in worker_specs(settings, env)
    ]


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--no-flower", action="store_true")
    options = parser.parse_args()
    with Crew(load_settings(options.data_dir), with_flower=not options.no_flower, workers=specs) as crew:
        crew.start()
        crew.wait_ready()
        crew.run()


if __name__ == "__main__":
    main()
