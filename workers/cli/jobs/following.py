"""Looking again and again until it is over, whatever is away for a moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.ledger.operations import Sight
    from tasks.runtime import Runtime

_EVERY_S: Final = 0.25
_MOST_LIVE: Final = 200


class Screen(Protocol):
    """Where sights are shown."""

    def show(self, sights: Sequence[Sight]) -> None:
        """Show what was just seen."""

    def tell_trouble(self, trouble: str | None) -> None:
        """Say that nothing can be seen at the moment, and why; None: it can be seen again."""


def follow(
    look: Callable[[], list[Sight]],
    screen: Screen,
    *,
    is_over: Callable[[Sequence[Sight]], bool],
    timeout_s: float | None,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Sight] | None:
    """Look and show until it is over, and give the last sights; None when time is up before.

    A database or broker that is away is told once, and asked again until it is back.
    """
    deadline = None if timeout_s is None else monotonic() + timeout_s
    trouble: str | None = None
    while True:
        try:
            sights = look()
        except TransientError as error:
            if str(error) != trouble:
                trouble = str(error)
                screen.tell_trouble(trouble)
        else:
            if trouble is not None:
                trouble = None
                screen.tell_trouble(None)
            screen.show(sights)
            if is_over(sights):
                return sights
        if deadline is not None and monotonic() >= deadline:
            return None
        sleep(_EVERY_S)


class Named:
    """Looks at the jobs that were named; their ids are looked up at the first look."""

    def __init__(self, runtime: Runtime, names: Sequence[str]) -> None:
        self._runtime = runtime
        self._names = names
        self._ids: list[str] | None = None

    def __call__(self) -> list[Sight]:
        """Look.

        Raises:
            UnknownRunError: there is no such job.
            TransientError: database or broker were in the way.
        """
        from tasks.ledger.operations import find_run, look_at_runs

        if self._ids is None:
            self._ids = list(dict.fromkeys(find_run(self._runtime, name).id for name in self._names))
        return look_at_runs(self._runtime, self._ids)


class Live:
    """Looks at every job that has not ended, and once more at each that has ended since the last look."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: set[str] = set()

    def __call__(self) -> list[Sight]:
        """Look; what has just ended comes first.

        Raises:
            TransientError: the database was in the way.
        """
        from tasks.ledger.operations import look_at_live, look_at_runs

        live = look_at_live(self._runtime, limit=_MOST_LIVE)
        ids = {sight.run.id for sight in live}
        gone = look_at_runs(self._runtime, sorted(self._known - ids))
        ended = [sight for sight in gone if sight.run.has_ended]
        self._known = ids
        return [*ended, *live]
