"""`nightcrew values`: default values, one by one, in lists and in files.

Each command works on the database of the crew, whether it runs or not.
"""

import typer

from workers.cli.values import changing, files, reading

app = typer.Typer(no_args_is_help=True)
app.command("get")(reading.get)
app.command("list")(reading.list_)
app.command("history")(reading.history)
app.command("set")(changing.set_)
app.command("delete")(changing.delete)
app.command("purge")(changing.purge)
app.command("import")(files.import_)
app.command("export")(files.export)
