"""A bar on standard error for work that a verb does itself; the result stays alone on standard output."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Self

from workers.cli.output import console, printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from tasks.backups.phases import Teller


def teller(name: str, *, json: bool) -> AbstractContextManager[Teller]:
    """Give whom the work tells how far it is, during a block: silent in a pipe, and for a script."""
    return nullcontext(_Silence()) if json or not sys.stderr.isatty() else _Bar(name)


class _Bar:
    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console(stderr=True), transient=True)
        self._bar = self._progress.add_task(name, total=1.0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def report(self, share: float, text: str = "") -> None:
        """Draw how far it is."""
        self._progress.update(self._bar, completed=share, description=printable(text))


class _Silence:
    def report(self, share: float, text: str = "") -> None:
        """Draw nothing."""
