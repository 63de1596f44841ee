"""Uses of default values as arrays: of whom, where and when, which value, and whether it turned out right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

UNKNOWN: Final = -1
"""In the place of a number that would stand for a text: it is not there, or was never seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Texts and the numbers that stand for them, in the order of their first use."""

    texts: Sequence[str]
    numbers: dict[str, int]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Vocabulary:
        """Number texts, all different."""
        return cls(texts=texts, numbers={text: number for number, text in enumerate(texts)})

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, kw_only=True)
class Events:
    """Uses, the oldest first. All arrays have one length; times are microseconds since the epoch."""

    at_us: NDArray[np.int64]
    known_at_us: NDArray[np.int64]
    """When it was known whether the value was right: nothing may learn of it earlier."""
    entity: NDArray[np.int64]
    value: NDArray[np.int64]
    """`UNKNOWN` where it is not known yet: such a use can be asked about, and teaches nothing."""
    accepted: NDArray[np.int8]
    """1 right, 0 wrong, -1 not known."""
    context: NDArray[np.int64]
    """Place in `contexts`, whole."""
    parts: NDArray[np.int64]
    """One column for each part of the context (parted by `|`), as places in `part_texts`; `UNKNOWN` where it has
    fewer."""
    entities: Vocabulary
    values: Vocabulary
    contexts: Vocabulary
    part_texts: Sequence[Vocabulary]

    def __len__(self) -> int:
        return len(self.at_us)

    def at(self, rows: NDArray[np.int64] | slice) -> Events:
        """Give some of them; the vocabularies stay whole."""
        return replace(
            self,
            at_us=self.at_us[rows],
            known_at_us=self.known_at_us[rows],
            entity=self.entity[rows],
            value=self.value[rows],
            accepted=self.accepted[rows],
            context=self.context[rows],
            parts=self.parts[rows],
        )

    @cached_property
    def taught(self) -> NDArray[np.bool_]:
        """Which of them say what value was used."""
        taught: NDArray[np.bool_] = self.value != UNKNOWN
        return taught
