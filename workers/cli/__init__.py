"""The command `nightcrew`.

A verb is a module `workers/cli/<verb>.py` with a variable `app: typer.Typer`, and a line in `verbs.VERBS`. It is
listed once the module exists, and imported only when it is used: `nightcrew --help` loads neither Celery nor
SQLAlchemy nor pydantic. A verb without sub-verbs gives its `app` one command, one with sub-verbs several (or one and
an `@app.callback()`). Within a verb:

- every command takes `data_dir: DataDir = None` and `json: AsJson = False` from `options.py`;
- no `from __future__ import annotations`: typer reads the annotations when the command is called;
- settings, database and broker of the crew come from `context.open_crew(data_dir)`;
- output goes through `output.py`; JSON is one object;
- errors are raised, never printed: `output.cli_errors`, wrapped around every verb, makes one line with a hint of each
  and picks the exit code. A command may also return an `ExitCode`.

Reading order: `verbs.py`, `options.py`, `output.py`, `context.py`, then the verbs.
"""

import sys


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit code."""
    from workers.cli.verbs import run

    sys.exit(run(sys.argv[1:]))
