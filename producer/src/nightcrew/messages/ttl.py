"""Messages of the study of times to live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nightcrew.messages.base import Message


@dataclass(frozen=True, kw_only=True)
class CollectAccess(Message):
    """Take what the apps have logged of their cache into the crew's counters."""

    kind: ClassVar[str] = "ttl.collect"
    queue: ClassVar[str] = "nightcrew.analysis"
