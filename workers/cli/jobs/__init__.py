"""`nightcrew jobs`: what became of jobs, and what to do about it.

Reading order: `options.py` (which jobs, on which terms), `listing.py`, `showing.py`, `treating.py` (show first, ask,
then do, for what changes many jobs), `retrying.py`, `cancelling.py`, `letters.py`, `pace.py`, `following.py`,
`screens.py`, `watching.py`.
"""

import typer

from workers.cli.jobs.cancelling import cancel
from workers.cli.jobs.letters import dead
from workers.cli.jobs.listing import list_jobs
from workers.cli.jobs.retrying import retry
from workers.cli.jobs.showing import show
from workers.cli.jobs.watching import watch

app = typer.Typer(no_args_is_help=True)
app.command("list")(list_jobs)
for _command in (show, watch, retry, cancel, dead):
    app.command()(_command)
