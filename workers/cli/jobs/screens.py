"""How sights of jobs are shown: as live bars, as lines, as JSON objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from tasks.ledger.states import State
from workers.cli.jobs.pace import Pace
from workers.cli.jobs.showing import offset
from workers.cli.output import console, print_error, print_json, print_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.table import Table

    from tasks.ledger.operations import Sight

_SHOWN_PER_SECOND: Final = 0.001
_STYLES: Final = {
    State.RUNNING: "cyan",
    State.QUEUED: "yellow",
    State.SUCCEEDED: "green",
    State.CANCELLED: "magenta",
}


class Changes:
    """Lets a sight through when it differs from the last one of the same job."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, ...]] = {}

    def of(self, sights: Sequence[Sight]) -> list[Sight]:
        """Give those that changed; the place in a queue alone is no change."""
        changed = [sight for sight in sights if self._seen.get(sight.run.id) != _key(sight)]
        self._seen.update((sight.run.id, _key(sight)) for sight in changed)
        for sight in changed:
            if sight.run.has_ended and len(self._seen) > len(sights) * 2 + 1_000:
                self._seen.pop(sight.run.id)  # a watch may last for weeks
        return changed


class LineScreen:
    """One line for each change, for a pipe or a log."""

    def __init__(self) -> None:
        self._changes = Changes()

    def show(self, sights: Sequence[Sight]) -> None:
        """Print what changed."""
        for sight in self._changes.of(sights):
            print_line(f"{sight.at:%H:%M:%SZ} {sight.run.id} {sight.run.kind} {describe(sight)}")

    def tell_trouble(self, trouble: str | None) -> None:
        """Print it to standard error."""
        tell_in_line(trouble)


class JsonScreen:
    """One JSON object in a line for each change."""

    def __init__(self) -> None:
        self._changes = Changes()

    def show(self, sights: Sequence[Sight]) -> None:
        """Print what changed."""
        for sight in self._changes.of(sights):
            print_json(sight.to_json())

    def tell_trouble(self, trouble: str | None) -> None:
        """Print it to standard error."""
        tell_in_line(trouble)


class LiveScreen:
    """Bars that are drawn over and over, for a terminal; used as a block."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=console(), refresh_per_second=8, transient=False)
        self._paces: dict[str, Pace] = {}
        self._sights: Sequence[Sight] = ()
        self._trouble: str | None = None

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, sights: Sequence[Sight]) -> None:
        """Draw what was seen."""
        self._sights = sights
        for sight in sights:
            pace = self._paces.setdefault(sight.run.id, Pace())
            pace.note(at=sight.at, fence=sight.run.fence, share=sight.run.progress)
        self._paces = {sight.run.id: self._paces[sight.run.id] for sight in sights}
        self._draw()

    def tell_trouble(self, trouble: str | None) -> None:
        """Draw it below the bars."""
        self._trouble = trouble
        self._draw()

    def _draw(self) -> None:
        height = max(self._live.console.height - 4, 1)
        self._live.update(bars(self._sights, self._paces, trouble=self._trouble, rows=height), refresh=True)


def bars(sights: Sequence[Sight], paces: dict[str, Pace], *, trouble: str | None, rows: int) -> Table:
    """Draw sights, a bar in each row, and below them what is in the way."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=True, show_header=False)
    table.add_column(no_wrap=True, ratio=6, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(width=12)
    table.add_column(no_wrap=True, justify="right", min_width=4)
    table.add_column(no_wrap=True, ratio=5, overflow="ellipsis")
    for sight in sights[:rows]:
        run, pace = sight.run, paces[sight.run.id]
        table.add_row(
            Text(run.id),
            Text(printable(run.kind)),
            Text(f"{run.state}{f' {run.attempt}' if run.attempt else ''}", style=_STYLES.get(run.state, "red")),
            ProgressBar(total=1.0, completed=_share(sight), pulse=run.state is State.RUNNING and run.progress is None),
            Text(f"{_share(sight):.0%}" if run.progress is not None or run.has_ended else ""),
            Text(printable(f"{_time_left(sight, pace)}{detail(sight)}")),
        )
    if len(sights) > rows:
        table.add_row(Text(f"… and {len(sights) - rows} more"))
    if not sights:
        table.add_row(Text("no job runs or waits"))
    if trouble is not None:
        table.add_row(Text(printable(trouble), style="red"))
    return table


def tell_in_line(trouble: str | None) -> None:
    """Print to standard error that nothing can be seen, or that it can be seen again."""
    if trouble is None:
        print_error("it can be seen again")
    else:
        print_error(f"nothing can be seen at the moment: {trouble}")


def describe(sight: Sight) -> str:
    """Say in a few words how a job is doing."""
    run = sight.run
    parts = [str(run.state)]
    if run.attempt:
        parts.append(f"attempt {run.attempt}")
    if run.state is State.RUNNING and run.progress is not None:
        parts.append(f"{run.progress:.0%}")
    return " ".join([*parts, detail(sight)]).rstrip()


def detail(sight: Sight) -> str:
    """Say what it is doing, what it waits for, or how it ended."""
    run = sight.run
    if run.state is State.RUNNING:
        stopping = f"asked to stop: {run.cancel_reason}" if run.cancel_requested_at else ""
        return stopping or run.progress_text or ""
    if run.state is State.QUEUED:
        return _waiting(sight)
    return run.error or ""


def _waiting(sight: Sight) -> str:
    reason = f"; {sight.run.error}" if sight.run.error else ""
    if sight.next_try_at is not None:
        return f"next try {sight.next_try_at:%H:%M:%SZ}{reason}"
    return f"{sight.ahead} before it{reason}" if sight.ahead is not None else reason.removeprefix("; ")


def _key(sight: Sight) -> tuple[Any, ...]:
    run = sight.run
    return (run.revision, run.progress, run.progress_text)


def _share(sight: Sight) -> float:
    return 1.0 if sight.run.state is State.SUCCEEDED else sight.run.progress or 0.0


def _time_left(sight: Sight, pace: Pace) -> str:
    rate, left = pace.per_second, pace.left(at=sight.at)
    if sight.run.state is not State.RUNNING or not rate or left is None:
        return ""
    shown = f"{rate:.1%}/s" if rate >= _SHOWN_PER_SECOND else f"{rate * 60:.2%}/min"
    return f"{offset(left)} left at {shown}  "
