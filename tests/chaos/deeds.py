"""Jobs that leave a trace of every time they are done, and the tables of those traces.

No constraint keeps a deed from being written twice: that is what the tests look for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import sqlalchemy as sa

from nightcrew.messages import Message

QUEUE: Final = "nightcrew.ledger"

METADATA: Final = sa.MetaData()

DEEDS: Final = sa.Table(
    "chaos_deeds",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("fence", sa.Integer, nullable=False),
)
"""One row for each time that a deed was done."""

USES: Final = sa.Table(
    "chaos_uses",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("resource_fence", sa.BigInteger, nullable=False),
    sa.Column("began_ns", sa.BigInteger, nullable=False),
    sa.Column("ended_ns", sa.BigInteger),
)
"""One row for each time that the resource was taken into use; by the clock of the machine, which no process turns."""


@dataclass(frozen=True, kw_only=True)
class DoDeed(Message):
    """Leave a trace, in the transaction of the outcome."""

    kind: ClassVar[str] = "chaos.deed"
    queue: ClassVar[str] = QUEUE

    padding: str = ""


@dataclass(frozen=True, kw_only=True)
class UseResource(Message):
    """Use what only one run may use at a time."""

    kind: ClassVar[str] = "chaos.exclusive"
    queue: ClassVar[str] = QUEUE

    seconds: float = 0.01


@dataclass(frozen=True, kw_only=True)
class KillWorker(Message):
    """Kill the process that does it."""

    kind: ClassVar[str] = "chaos.poison"
    queue: ClassVar[str] = QUEUE


@dataclass(frozen=True, kw_only=True)
class WorkLong(Message):
    """Work for a while with checkpoints, then leave a trace."""

    kind: ClassVar[str] = "chaos.long"
    queue: ClassVar[str] = QUEUE

    seconds: float = 5.0
