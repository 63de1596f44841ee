"""`nightcrew backup`: restore points and the vaults that keep them.

Reading order: `handing_over.py` (a job to the crew, and its end), `taking.py` (the verbs that do that), `places.py`
(which vault a verb looks into), `listing.py`, `showing.py`, `keeping.py` (hold, accept), `kits.py`.
"""

from collections.abc import Callable
from typing import Final

import typer

from workers.cli.backup.keeping import accept, hold, release
from workers.cli.backup.kits import kit
from workers.cli.backup.listing import list_points
from workers.cli.backup.showing import show
from workers.cli.backup.taking import copy, differential, full, incremental, prune, verify

_COMMANDS: Final[tuple[Callable[..., object], ...]] = (
    *(full, incremental, differential, show, verify, prune, copy),
    *(hold, release, accept, kit),
)

app = typer.Typer(no_args_is_help=True)
app.command("list")(list_points)
for _command in _COMMANDS:
    app.command()(_command)
