"""Options that every verb takes."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where the crew lives. Default: NIGHTCREW_DATA_DIR, else .nightcrew in this directory.",
        show_default=False,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.", show_default=False)]
