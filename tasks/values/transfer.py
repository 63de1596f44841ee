"""Importing many values, in batches of one transaction each, with a word for each line that was refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from tasks.values.changes import Refusal
from tasks.values.files import BadLine, GoodLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tasks.values.changes import Change
    from tasks.values.files import Line
    from tasks.values.values import DefaultValue

AT_ONCE: Final = 500
"""Changes in one transaction: other writers of SQLite wait for some 20 ms."""
MOST_TOLD: Final = 1_000
"""Refused lines that are told one by one; all are counted."""


class Writer(Protocol):
    """The store, as an import needs it."""

    def apply(self, changes: Sequence[Change], *, actor: str) -> Sequence[DefaultValue | Refusal]:
        """Make changes in one transaction; give for each what the value is now, or why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A line that was not taken."""

    number: int
    key: str
    """Empty where the line has none that can be read."""
    detail: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the lines of a file."""

    lines: int = 0
    made: int = 0
    """Values that were not there before."""
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    told: list[Refused] = field(default_factory=list)

    def refuse(self, number: int, key: str, detail: str) -> None:
        """Count a line that was not taken, and keep what is to be told of it."""
        self.refused += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(Refused(number=number, key=key, detail=detail))

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `values import --json` documents."""
        counts = {name: getattr(self, name) for name in ("lines", "made", "changed", "unchanged", "refused")}
        told = [{"line": one.number, "key": one.key, "detail": one.detail} for one in self.told]
        return counts | {"errors": told, "errors_left_out": self.refused - len(self.told)}


def take_in(
    lines: Iterable[Line],
    writer: Writer,
    *,
    actor: str,
    versions: Callable[[Sequence[Change]], Sequence[int | None]],
    tick: Callable[[int], None],
    dry_run: bool = False,
) -> Tally:
    """Make the changes of a file; `versions` gives what each value is at before, `tick` hears of the lines done.

    `dry_run` reads everything and changes nothing: what only the store would refuse is not found.

    Raises:
        TransientError: the database is away; the batches until then stay.
    """
    tally = Tally()
    remaining = iter(lines)
    while batch := list(islice(remaining, AT_ONCE)):
        tally.lines += len(batch)
        for line in batch:
            if isinstance(line, BadLine):
                tally.refuse(line.number, "", line.detail)
        good = [line for line in batch if isinstance(line, GoodLine)]
        if good and not dry_run:
            _take_batch(good, writer, tally, actor=actor, versions=versions)
        tick(tally.lines)
    return tally


def _take_batch(
    lines: Sequence[GoodLine],
    writer: Writer,
    tally: Tally,
    *,
    actor: str,
    versions: Callable[[Sequence[Change]], Sequence[int | None]],
) -> None:
    changes = [line.change for line in lines]
    known = dict(zip([change.address for change in changes], versions(changes), strict=True))
    for line, outcome in zip(lines, writer.apply(changes, actor=actor), strict=True):
        if isinstance(outcome, Refusal):
            tally.refuse(line.number, outcome.key, f"{outcome.fault}: {outcome.detail}")
            continue
        before = known[line.change.address]
        known[line.change.address] = outcome.version
        if before is None:
            tally.made += 1
        elif outcome.version == before:
            tally.unchanged += 1
        else:
            tally.changed += 1
