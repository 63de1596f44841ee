"""`nightcrew ttl`: what other times to live would do to a cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line, print_table
from workers.cli.progress_bar import teller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.ttl.replay import Mode
    from tasks.ttl.study import FamilyStudy
    from tasks.ttl.traces import Trace

app = typer.Typer(no_args_is_help=True)

_BAR_CELLS = 40
_BYTES_A_LINE = 24
"""About, for the bar alone."""


@app.callback()
def _root() -> None:
    """Say what other times to live would do to a cache."""


@app.command()
def study(
    trace: Annotated[
        Path, typer.Option("--trace", metavar="FILE", help="CSV with ts_s,key[,family,size,op]; .gz and .zst too.")
    ],
    mode: Annotated[
        str, typer.Option("--mode", help="sliding: each request starts the time anew; fixed: filling and writing do.")
    ] = "fixed",
    ttl: Annotated[str, typer.Option("--ttl", help="Seconds, parted by commas, or auto.")] = "auto",
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Say for each family how many requests would have hit with each time to live, to the last request.

    JSON: {"mode", "families": {NAME: {"requests", "keys", "one_hit_keys", "span_s", "mode", "hit_rate": null,
    "curve": [{"ttl_s", "hit_rate", "low", "high", "hits", "censored"}], "recommended_ttl_s": null,
    "verdict": "descriptive"}}}; `censored` are times that the trace is too short to judge
    """
    del data_dir  # a file is studied without a crew
    from tasks.ttl.study import study_trace

    chosen, ttls_s = _mode(mode), _seconds(ttl)
    with teller("study", json=json) as told:
        read = _read(trace, lambda share: told.report(share, f"reading {trace.name}"))
        studies = study_trace(read, chosen, ttls_s, tick=lambda family: told.report(0.9, family))
    if json:
        print_json({"mode": chosen, "families": {one.family: one.to_json() for one in studies}})
    else:
        _print(studies)


def _read(file: Path, tell: Any) -> "Trace":
    from tasks.ttl.reading import InvalidTraceError, read_trace

    try:
        expected = max(1, file.stat().st_size // _BYTES_A_LINE)
        return read_trace(file, tick=lambda lines: tell(min(0.9, lines / expected)))
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise CliError(msg, code=ExitCode.USAGE) from error
    except InvalidTraceError as error:
        hint = "a CSV whose first line is ts_s,key and what there is of family,size,op"
        raise CliError(str(error), hint=hint, code=ExitCode.USAGE) from error


def _mode(written: str) -> "Mode":
    from tasks.ttl.replay import MODES

    for mode in MODES:
        if mode == written:
            return mode
    msg = f"--mode is {written!r}"
    raise CliError(msg, hint=f"one of {', '.join(MODES)}", code=ExitCode.USAGE)


def _seconds(written: str) -> "Sequence[float] | None":
    if written.strip() == "auto":
        return None
    try:
        seconds = [float(one) for one in written.split(",")]
        wrong = [one for one in seconds if not 0.001 <= one <= 1e9]  # noqa: PLR2004  a millisecond, thirty years
    except ValueError:
        seconds, wrong = [], [0.0]
    if wrong or not seconds:
        msg = f"--ttl is {written!r}"
        raise CliError(msg, hint="seconds parted by commas, such as 60,300,3600, or auto", code=ExitCode.USAGE)
    return seconds


def _print(studies: "Sequence[FamilyStudy]") -> None:
    for one in studies:
        print_line(
            f"{one.family}: {one.requests} requests for {one.keys} keys in {one.span_s:.0f} s, "
            f"{one.one_hit_keys} keys asked for once; {one.mode}"
        )
        rows = [
            (
                f"{point.ttl_s:g}",
                f"{point.hit_rate:.4f}",
                _bar(point.hit_rate),
                "too short" if point.is_censored else "",
            )
            for point in one.curve
        ]
        print_table(("ttl (s)", "hit rate", "", "trace is"), rows)


def _bar(share: float) -> str:
    return "█" * round(_BAR_CELLS * share)
