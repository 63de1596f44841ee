"""What a verb says when an id or a number is wrong."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from workers.cli.output import CliError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def refusals(*, hint: str) -> Iterator[None]:
    """Say where ids and numbers are found when one is wrong."""
    from tasks.ledger.operations import NotRetryableError, UnknownLetterError, UnknownRunError

    try:
        yield
    except (UnknownRunError, UnknownLetterError, NotRetryableError) as error:
        raise CliError(str(error), hint=hint) from error
