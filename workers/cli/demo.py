"""`nightcrew demo`: the main job once, on real events, with a worker killed in the middle, and the proof."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, console, print_json, print_line
from workers.settings import load_settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from workers.demo.proof import ProofLine
    from workers.supervisor.crew_file import CrewRecord

app = typer.Typer()

_SAMPLE = Path(__file__).parents[2] / "data" / "events.csv.gz"


@app.command()
def demo(
    rounds: Annotated[int, typer.Option("--rounds", min=3, help="How often the events are counted.")] = 20,
    events: Annotated[Path, typer.Option("--events", help="Events to count.", show_default=False)] = _SAMPLE,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Count the sample data through real workers, kill one with kill -9 half-way, and print the proof.

    Starts a crew of its own and ends it again. Exits 0 only if every line of the proof holds.

    JSON: {"ok", "flower", "proof": [{"claim", "measured", "holds"}]}
    """
    from workers.demo.demonstration import Demonstration
    from workers.demo.events import read_events

    settings = load_settings(data_dir)
    if not settings.flower.enabled:
        raise CliError("the demo shows Flower, which the settings switch off", hint="NIGHTCREW_FLOWER__ENABLED=true")
    known = list(read_events(events))
    with _stage(rounds * len(known), quiet=json) as audience:
        audience.note("starting a crew of its own; this takes a few seconds")
        demonstration = Demonstration(settings=settings, events=known, rounds=rounds, audience=audience)
        proof = demonstration.run()
    ok = all(line.holds for line in proof)
    if json:
        print_json({"ok": ok, "flower": audience.flower_url, "proof": [asdict(line) for line in proof]})
    else:
        _print_proof(proof)
        print_line("every line holds" if ok else "a line does not hold")
    return ExitCode.OK if ok else ExitCode.FAILED


class _Stage:
    """Shows the demo on standard error: a live bar on a terminal, lines elsewhere."""

    def __init__(self, progress: "Progress", out: "Console", events: int) -> None:
        self._progress = progress
        self._out = out
        self._sent = progress.add_task("sent", total=events)
        self._counted = progress.add_task("counted", total=events)
        self.flower_url = ""

    def ready(self, crew: "CrewRecord") -> None:
        """Say where Flower is."""
        if crew.flower is not None:
            self.flower_url = crew.flower.url
            self.note(f"Flower: {crew.flower.url} (user {crew.flower.user}, password in flower.password)")
        self.note(f"crew: {', '.join(f'{name} {pid}' for name, pid in crew.children.items())}")

    def progress(self, *, sent: int, counted: int) -> None:
        """Move the bars."""
        self._progress.update(self._sent, completed=sent)
        self._progress.update(self._counted, completed=counted)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._out.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _stage(events: int, *, quiet: bool) -> Iterator[_Stage]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    out = console(stderr=True)
    out.quiet = quiet
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, disable=quiet or not out.is_terminal) as progress:
        yield _Stage(progress, out, events)


def _print_proof(proof: "list[ProofLine]") -> None:
    from rich.table import Table

    table = Table(title="proof", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("claim")
    table.add_column("measured", justify="right")
    for line in proof:
        table.add_row("[green]ok[/]" if line.holds else "[bold red]FAILED[/]", line.claim, line.measured)
    console().print(table)
