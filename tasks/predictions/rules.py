"""The simple rules that a model has to beat: the value used last, and the one used most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tasks.predictions.events import UNKNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.events import Events

Rule = Literal["last_used", "most_frequent"]

RULES: Final[tuple[Rule, ...]] = ("last_used", "most_frequent")


def by_rules(events: Events) -> dict[Rule, NDArray[np.int64]]:
    """Give what each rule says of each event from the earlier ones of its entity.

    Where the entity has none: what anybody used last, and most. Events of one instant do not see each other.
    """
    said: dict[Rule, list[int]] = {rule: [] for rule in RULES}
    seen, everybody = _Seen(), _Counted()
    waiting: list[tuple[int, int]] = []
    now = None
    for at_us, entity, value in zip(events.at_us.tolist(), events.entity.tolist(), events.value.tolist(), strict=True):
        if at_us != now:
            for one in waiting:
                seen.use(*one)
                everybody.use(one[1])
            waiting.clear()
            now = at_us
        own = seen.of.get(entity, everybody)
        said["last_used"].append(own.last)
        said["most_frequent"].append(own.most)
        if value != UNKNOWN:
            waiting.append((entity, value))
    return {rule: np.array(values, dtype=np.int64) for rule, values in said.items()}


class _Counted:
    """Values of one entity, the one used last and the one used most."""

    __slots__ = ("counts", "last", "most")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.last = UNKNOWN
        self.most = UNKNOWN

    def use(self, value: int) -> None:
        count = self.counts[value] = self.counts.get(value, 0) + 1
        self.last = value
        if self.most == UNKNOWN or count > self.counts[self.most]:
            self.most = value


class _Seen:
    """All entities."""

    def __init__(self) -> None:
        self.of: dict[int, _Counted] = {}

    def use(self, entity: int, value: int) -> None:
        self.of.setdefault(entity, _Counted()).use(value)
