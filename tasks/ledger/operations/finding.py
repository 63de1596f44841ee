"""Runs by their ids and by what they have in common."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from tasks.errors import PermanentError, TransientError
from tasks.ledger import reconciliation
from tasks.ledger.filters import Filter
from tasks.ledger.store import queries, selecting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime

BATCH: Final = 500
"""Runs that are read or changed at a time: no transaction holds the database for long."""

_ID_PREFIX: Final = re.compile("[0-9a-f-]{1,36}")


class UnknownRunError(PermanentError):
    """No run has this id, or more than one has an id that begins so."""


def list_runs(runtime: Runtime, wanted: Filter | None = None, *, limit: int = 50) -> list[Run]:
    """List runs, the last queued first."""
    return selecting.newest(runtime.engine, wanted or Filter(), limit=limit)


def select_runs(runtime: Runtime, wanted: Filter, *, limit: int | None = None) -> list[str]:
    """List the ids of runs, the first queued first."""
    return selecting.ids(runtime.engine, wanted, limit=limit)


def find_run(runtime: Runtime, id_or_prefix: str) -> Run:
    """Find one run by its id or by a beginning of it that no other shares; one just asked for is taken in before.

    Raises:
        UnknownRunError: there is none, or more than one.
        TransientError: there is none, and the broker cannot be asked for new ones.
    """
    prefix = id_or_prefix.strip().lower()
    found = _look_up(runtime, prefix) if _ID_PREFIX.fullmatch(prefix) else []
    if not found:
        msg = f"no run has an id that begins with {id_or_prefix!r}"
        raise UnknownRunError(msg)
    if len(found) > 1:
        msg = f"more than one run has an id that begins with {id_or_prefix!r}: {found[0].id}, {found[1].id}, …"
        raise UnknownRunError(msg)
    return found[0]


def take_in_new(runtime: Runtime) -> str | None:
    """Take into the ledger what apps have just asked for; give what was in the way, None when nothing was."""
    try:
        reconciliation.take_in_intents(runtime)
    except TransientError as error:
        return str(error)
    return None


def in_batches(run_ids: Iterable[str]) -> Iterator[list[str]]:
    """Cut a list of ids into parts of a bounded size."""
    rest = iter(run_ids)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _look_up(runtime: Runtime, prefix: str) -> list[Run]:
    found = queries.by_prefix(runtime.engine, prefix)
    if found:
        return found
    reconciliation.take_in_intents(runtime)
    return queries.by_prefix(runtime.engine, prefix)
