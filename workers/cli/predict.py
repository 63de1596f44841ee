"""`nightcrew predict`: the value that comes next, for each row of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import open_crew
from workers.cli.model import check_there
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, print_json, print_line
from workers.cli.progress_bar import teller

if TYPE_CHECKING:
    from tasks.predictions.operations import PredictedFile

app = typer.Typer()


@app.command()
def predict(
    uses: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="CSV or Parquet with ts,entity and context; .gz, .zst too.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet; else in the data directory."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="A version; else the one that serves.")] = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Predict the value of each row from what was known at its instant.

    The past is that of the model and the earlier rows of the file that say their value; these are judged as well.

    JSON: {"rows", "predicted", "sure", "model_version", "rows_per_s", "output", "errors", "first_errors": [{"row",
    "reason"}], "drift": {"rows", "worst", "level", "columns"}}, and where rows say their value {"judged_rows", "top1",
    "log_loss", "ece", "coverage", "accuracy", "accuracy_at_coverage"}
    """
    from tasks.errors import PermanentError
    from tasks.predictions.operations import predict_file, shelf_of

    check_there(uses)
    with open_crew(data_dir) as crew, teller("predict", json=json) as told:
        directory = crew.settings.data_dir
        target = output or directory / "exchange" / f"{uses.name.partition('.')[0]}.predictions.csv"
        try:
            done = predict_file(shelf_of(directory), uses, target, version=model, tick=told.report)
        except PermanentError as error:
            raise CliError(str(error), hint="nightcrew model list") from error
    if json:
        print_json(done.to_json())
    else:
        _print(done)


def _print(done: "PredictedFile") -> None:
    rows = len(done.read.events)
    print_line(
        f"{done.predicted:,} of {rows + done.read.refused:,} rows predicted by model {done.model_version}, "
        f"{done.sure:,} for sure, at {rows / max(done.seconds, 1e-9):,.0f} rows/s: {done.output}"
    )
    if done.read.refused:
        print_line(
            f"{done.read.refused:,} rows cannot be used; row {done.read.errors[0].row}: {done.read.errors[0].reason}"
        )
    if done.judgement is not None:
        print_line(
            f"right: {done.judgement['top1']:.2%} of {done.judgement['judged_rows']:,} rows that say their value"
        )
    if done.drift["level"] in {"warn", "alert"}:
        columns = [name for name, one in done.drift["columns"].items() if one["level"] in {"warn", "alert"}]
        print_line(
            f"drift ({done.drift['level']}): what is asked differs from what was taught in {', '.join(columns[:5])}"
        )
