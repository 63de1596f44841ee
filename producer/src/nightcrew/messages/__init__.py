"""Every message an app or the timetable can send: the contract between apps and the crew.

A message is a frozen dataclass with a `kind` that never changes, because it stands in queues, in
the ledger and in the logs of releases that are long gone. Standard library only.

Read `base.py` first, then the module of the capability.
"""

from nightcrew.messages.backups import (
    CopyToSecondVault,
    DrillRestore,
    PruneVault,
    RunFullBackup,
    RunIncrementalBackup,
    VerifyVault,
)
from nightcrew.messages.base import Message, kinds, message_type
from nightcrew.messages.ledger import ReconcileLedger, RunCanary
from nightcrew.messages.schedules import FireSchedule
from nightcrew.messages.ttl import CollectAccess
from nightcrew.messages.usage import DrainUsage

__all__ = [
    "CollectAccess",
    "CopyToSecondVault",
    "DrainUsage",
    "DrillRestore",
    "FireSchedule",
    "Message",
    "PruneVault",
    "ReconcileLedger",
    "RunCanary",
    "RunFullBackup",
    "RunIncrementalBackup",
    "VerifyVault",
    "kinds",
    "message_type",
]
