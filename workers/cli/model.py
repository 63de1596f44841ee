"""`nightcrew model`: train models, see them, check them, choose which one serves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line, print_table
from workers.cli.progress_bar import teller

if TYPE_CHECKING:
    from tasks.predictions.operations import Trained
    from tasks.predictions.store.models import ModelShelf

app = typer.Typer(no_args_is_help=True)

Version = Annotated[str, typer.Argument(help="Which one, as `nightcrew model list` names it.")]


@app.callback()
def _root() -> None:
    """Train models, see them, check them, choose which one serves."""


@app.command()
def train(
    uses: Annotated[
        Path,
        typer.Option(
            "--data", metavar="FILE", help="CSV or Parquet with ts,known_at,entity,context,value,accepted; .gz, .zst."
        ),
    ],
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed and data give the same model.")] = None,
    no_promote: Annotated[
        bool, typer.Option("--no-promote", help="Keep the model, and let the other one serve.")
    ] = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Learn from uses, and let the model serve if it beats the best simple rule on what came after.

    JSON: {"model_version", "promoted", "reason", "rows", "refused_rows", "errors": [{"row", "reason"}], "top1",
    "log_loss", "ece", "coverage", "accuracy", "threshold", "baselines": {"last_used" | "most_frequent": {"top1",
    "log_loss", "ece"}}, "gain": {"value", "low", "high"}, "data_sha256", "seed", "held_out": {…}}; the figures are of
    the last fifth of the uses, which the model has not seen; `coverage` and `accuracy` are those from `threshold` on
    """
    from datetime import UTC, datetime

    from tasks.errors import PermanentError
    from tasks.predictions.operations import train as learn_from
    from tasks.predictions.operations.training import SEED

    check_there(uses)
    with open_crew(data_dir) as crew, teller("train", json=json) as told:
        shelf = _shelf(crew.settings.data_dir)
        try:
            trained = learn_from(
                shelf,
                uses,
                now=datetime.now(UTC),
                seed=SEED if seed is None else seed,
                promote=not no_promote,
                tick=told.report,
            )
        except PermanentError as error:
            raise CliError(str(error), hint="the columns are described in `nightcrew model train --help`") from error
    if json:
        print_json(trained.to_json())
    else:
        _print(trained)


@app.command("list")
def list_(data_dir: DataDir = None, json: AsJson = False) -> None:
    """List the models, the newest first.

    JSON: {"active", "models": [{"version", "active", "created_at", "top1", "gain", "bytes", "problem"}]}
    """
    from tasks.predictions.manifest import UntrustedModelError

    with open_crew(data_dir) as crew:
        shelf = _shelf(crew.settings.data_dir)
        active, rows = shelf.active(), []
        for version in reversed(shelf.versions()):
            try:
                rows.append(_row(shelf, version, active))
            except UntrustedModelError as error:
                rows.append({"version": version, "active": version == active, "problem": str(error)})
    if json:
        print_json({"active": active, "models": rows})
        return
    table = [
        (
            "*" if row["active"] else "",
            row["version"],
            row.get("created_at", ""),
            f"{row['top1']:.4f}" if "top1" in row else "",
            f"{100 * row['gain']:+.2f}" if "gain" in row else "",
            row["problem"] or "",
        )
        for row in rows
    ]
    print_table(("", "version", "created (UTC)", "top-1", "points over the best rule", "problem"), table)


@app.command()
def verify(version: Version, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Check signature, hashes, types and predictions of a model. Exit 1 when it must not serve.

    JSON: {"version", "ok", "problem"}
    """
    from tasks.errors import PermanentError
    from tasks.predictions import operations

    with open_crew(data_dir) as crew:
        problem = None
        try:
            operations.verify(_shelf(crew.settings.data_dir), version)
        except PermanentError as error:
            problem = str(error)
    if json:
        print_json({"version": version, "ok": problem is None, "problem": problem})
    elif problem is None:
        print_line(f"{version} is whole, signed by this crew, and predicts what it should")
    else:
        print_line(f"{version} must not serve: {problem}")
    if problem is not None:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def activate(version: Version, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Let a model serve, after all checks.

    JSON: {"active"}
    """
    from tasks.errors import PermanentError
    from tasks.predictions import operations

    with open_crew(data_dir) as crew:
        try:
            manifest = operations.activate(_shelf(crew.settings.data_dir), version)
        except PermanentError as error:
            raise CliError(str(error), hint="nightcrew model list") from error
    _print_active(manifest.version, json=json)


@app.command()
def rollback(data_dir: DataDir = None, json: AsJson = False) -> None:
    """Let the model serve again that did before the active one.

    JSON: {"active"}
    """
    from tasks.errors import PermanentError
    from tasks.predictions import operations

    with open_crew(data_dir) as crew:
        try:
            manifest = operations.roll_back(_shelf(crew.settings.data_dir))
        except PermanentError as error:
            raise CliError(str(error), hint="nightcrew model list") from error
    _print_active(manifest.version, json=json)


def check_there(file: Path) -> None:
    """Refuse a file that is not there, before anything is loaded."""
    if not file.is_file():
        msg = f"there is no file {file}"
        raise CliError(msg, code=ExitCode.USAGE)


def _shelf(data_dir: Path) -> "ModelShelf":
    from tasks.predictions.operations import shelf_of

    return shelf_of(data_dir)


def _row(shelf: "ModelShelf", version: str, active: str | None) -> dict[str, Any]:
    manifest = shelf.manifest(version)
    return {
        "version": version,
        "active": version == active,
        "created_at": manifest.created_at,
        "top1": manifest.metrics["top1"],
        "gain": manifest.metrics["gain"]["value"],
        "bytes": sum(one.bytes for one in manifest.files.values()),
        "problem": None,
    }


def _print(trained: "Trained") -> None:
    judged = trained.learned.judgement
    print_line(f"model {trained.manifest.version} from {len(trained.read.events):,} uses: {trained.reason}")
    if trained.read.refused:
        first = trained.read.errors[0]
        print_line(f"{trained.read.refused:,} rows were left out; row {first.row}: {first.reason}")
    rows = [
        ("model", f"{judged.top1.value:.4f}", f"{judged.log_loss:.4f}", f"{judged.ece:.4f}"),
        *(
            (rule.replace("_", " "), f"{found['top1']:.4f}", f"{found['log_loss']:.4f}", f"{found['ece']:.4f}")
            for rule, found in judged.rules.items()
        ),
    ]
    print_table((f"on the last {judged.rows:,}", "top-1", "log loss", "calibration error"), rows)
    if judged.selective.accuracy is not None:
        print_line(
            f"answers given when it is sure (from {judged.selective.threshold:.3f} on): "
            f"{judged.selective.coverage:.1%} of rows, {judged.selective.accuracy:.2%} of them right"
        )


def _print_active(version: str, *, json: bool) -> None:
    if json:
        print_json({"active": version})
    else:
        print_line(f"{version} serves now")
