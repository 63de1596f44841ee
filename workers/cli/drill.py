"""`nightcrew drill`: a point is restored into a sandbox, compared for equality, and the comparison is tested, too."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.backup.handing_over import check_enabled, follow_to_end, made
from workers.cli.context import CrewContext, open_crew
from workers.cli.drill_view import print_drill, print_past, tell_verdict
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line
from workers.cli.progress_bar import teller

if TYPE_CHECKING:
    from tasks.backups.drills.records import Drill

DrilledPoint = Annotated[
    str | None,
    typer.Argument(
        metavar="POINT",
        help="Beginning of an id, or latest, latest-full, latest-proven. Default: the one whose proof is most due.",
        show_default=False,
    ),
]
Cold = Annotated[
    bool, typer.Option("--cold", help="As on a bare machine: fresh process, empty cache, recovery kit alone.")
]
Disaster = Annotated[
    bool, typer.Option("--disaster", help="Destroy a small running crew in a scratch directory, and bring it back.")
]
Past = Annotated[bool, typer.Option("--list", help="Do none; list what drills have found.")]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write a page that says how restores stand (HTML).")
]

app = typer.Typer()


@app.command()
def drill(
    point: DrilledPoint = None,
    cold: Cold = False,
    disaster: Disaster = False,
    past: Past = False,
    report: Report = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Prove that a point restores: every row, key and file equal, and every damaged copy rejected.

    Nothing that runs is touched. Where the crew runs, its worker does it; else it is done here.

    Exit code: 0 it passed, 1 the point is damaged, 5 nothing was found out; also 5 where no drill could be done.

    JSON: {"id", "run_id", "way": "warm" | "cold" | "disaster", "point", "profile", "kind", "sequence", "size_bytes",
    "asked_at", "finished_at", "verdict": "pass" | "fail" | "inconclusive", "reason", "chosen_because", "seconds":
    {"fetch", "apply", "validate"} | null, "rto_s", "rpo_s", "checks": [{"name", "artefact", "outcome", "examined",
    "unit", "differences", "unable"}], "mutants": {"killed", "total", "survivors", "each": [{"name", "artefact",
    "noticed_by", "not_possible"}]}, "timeline": [{"at", "says"}], "file"?}; `file` is the report. With --list
    {"drills": [{"id", … without checks, timeline and each mutant}], "times": [{"size", "depth", "restores", "fetch":
    {"p50_s", "p95_s"}, "apply", "validate", "total"}], "proven", "could_restore_to", "last_drill", "predicted_rto": as
    `status` gives them, "file"?}
    """
    _check_options(point, cold=cold, disaster=disaster, past=past)
    if report is not None:
        _check_writable(report)
    with open_crew(data_dir) as crew:
        check_enabled(crew)
        found = None if past else _found(crew, point, cold=cold, disaster=disaster, json=json)
        document = _past(crew) if found is None else found.to_json()
        if report is not None:
            _write(crew, report)
    if json:
        print_json(document | ({} if report is None else {"file": str(report)}))
    else:
        _print(document, found, report)
    return ExitCode.OK if found is None else _code(found)


def _check_options(point: str | None, *, cold: bool, disaster: bool, past: bool) -> None:
    if past and (point is not None or cold or disaster):
        raise CliError("--list does no drill", hint="give --list alone, or with --report", code=ExitCode.USAGE)
    if disaster and (point is not None or cold):
        msg = "--disaster makes a crew and its points of its own"
        raise CliError(msg, hint="nightcrew drill --disaster", code=ExitCode.USAGE)


def _past(crew: CrewContext) -> dict[str, Any]:
    from tasks.backups.operations.proving import past_drills

    return past_drills(crew.runtime)


def _found(crew: CrewContext, wanted: str | None, *, cold: bool, disaster: bool, json: bool) -> "Drill":
    return _disaster(crew, json=json) if disaster else _drill(crew, wanted, cold=cold, json=json)


def _drill(crew: CrewContext, wanted: str | None, *, cold: bool, json: bool) -> "Drill":
    """Have it done by the crew, or do it here where none runs: a restore needs no crew, and neither does its proof."""
    point = _chosen(crew, wanted)
    if crew.settings.broker.url is not None or crew.record() is not None:
        return _handed_over(crew, point, cold=cold, json=json)
    with _without_verdict(), teller("drill", json=json) as told:
        from tasks.backups.operations import drill_point

        return drill_point(crew.runtime, point, cold=cold, teller=told)


def _chosen(crew: CrewContext, wanted: str | None) -> str | None:
    """Give the whole id of the point that is meant: a slip of the hand is no drill that found nothing out.

    Raises:
        CliError: none or several are meant, or there is nothing to drill.
    """
    from tasks.backups.choosing import PointNotFoundError, choose_point
    from tasks.backups.drills.choosing import choose_due
    from tasks.backups.operations import list_points

    points = list_points(crew.runtime)
    try:
        if wanted is not None:
            return choose_point(points, wanted).id
        choose_due(points, now=crew.runtime.clock())
    except PointNotFoundError as error:
        code = ExitCode.DEGRADED if wanted is None else ExitCode.USAGE
        raise CliError(str(error), hint="nightcrew backup list", code=code) from error
    return None


def _handed_over(crew: CrewContext, point: str | None, *, cold: bool, json: bool) -> "Drill":
    from nightcrew.messages import DrillRestore
    from tasks.backups.operations.proving import drill_of_run

    run = follow_to_end(crew, made(lambda: DrillRestore(point=point, cold=cold)), json=json)
    if (found := drill_of_run(crew.runtime, run.id)) is None:
        msg = f"the drill came to no verdict, job {run.id} is {run.state}: {run.error}"
        raise CliError(msg, hint=f"nightcrew jobs show {run.id}", code=ExitCode.DEGRADED)
    return found


def _disaster(crew: CrewContext, *, json: bool) -> "Drill":
    from workers.disaster import simulate_disaster

    with _without_verdict(), teller("disaster", json=json) as told:
        return simulate_disaster(crew.settings, crew.runtime, teller=told)


@contextmanager
def _without_verdict() -> Iterator[None]:
    """Keep exit code 1 for points that are damaged: what was only in the way says nothing of any."""
    from tasks.errors import CrewError

    try:
        yield
    except CrewError as error:
        raise CliError(str(error), hint="nightcrew doctor; then drill again", code=ExitCode.DEGRADED) from error


def _check_writable(path: Path) -> None:
    """See that the report can be written before a drill is done for it.

    Raises:
        CliError: it cannot.
    """
    hint = "name a file in a directory that is there and that you may write to"
    if path.is_dir():
        msg = f"{path} is a directory"
        raise CliError(msg, hint=hint, code=ExitCode.USAGE)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".nightcrew-"):
            pass
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise CliError(msg, hint=hint, code=ExitCode.USAGE) from error


def _write(crew: CrewContext, path: Path) -> None:
    """Put the page in its place in one step, for nobody else to read: it names tables."""
    from tasks.backups.operations.proving import report_page

    page = report_page(crew.runtime)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".nightcrew-")  # of mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _print(document: dict[str, Any], found: "Drill | None", report: Path | None) -> None:
    if found is None:
        print_past(document)
    else:
        print_drill(found)
    if report is not None:
        print_line(f"the report is in {report}")
    if found is not None:
        tell_verdict(found)


def _code(found: "Drill") -> ExitCode:
    from tasks.backups.drills.verdicts import Verdict

    return {
        Verdict.PASS: ExitCode.OK,
        Verdict.FAIL: ExitCode.FAILED,
        Verdict.INCONCLUSIVE: ExitCode.DEGRADED,
    }[found.verdict]
