"""Items that nobody should put on a queue: noise, and messages spoilt in one place.

Hypothesis makes the values, which is where its imagination is; putting them into envelopes is done by a random number
generator with the same seed, because ten thousand envelopes drawn piece by piece would take a minute.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from tests.unit.workers.celery.envelopes import BAD_HEADERS, BAD_PARTS, BAD_PROPERTIES, encoded, envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[["Imagination"], bytes]

_SHAPES = 1_500
_FOREIGN_TYPES = ("application/x-python-serialize", "application/x-yaml", "application/x-msgpack", "text/plain")
_WRONG_PAYLOADS = ({"note": 5}, {"note": None}, {"note": "x" * 201}, {"note": ["x"]})

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


class Imagination:
    """Values to choose from, and the chance that chooses; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._values: list[Any] = []
        self._noise: list[bytes] = []
        self._dream(seed)

    def value(self) -> Any:
        return self.chance.choice(self._values)

    def noise(self) -> bytes:
        return self.chance.choice(self._noise) + self.chance.randbytes(self.chance.randrange(4))

    def bad(self, table: dict[str, list[Any]]) -> dict[str, Any]:
        name = self.chance.choice(list(table))
        return {name: self.chance.choice(table[name])}

    def _dream(self, seed: int) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=_SHAPES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @hypothesis.given(_json, st.binary(max_size=100))
        def dream(value: Any, noise: bytes) -> None:
            self._values.append(value)
            self._noise.append(noise)

        dream()


def make_items(count: int, seed: int) -> list[bytes]:
    """Make items, a few of each sort after the other."""
    imagination = Imagination(seed)
    return [_MAKERS[number % len(_MAKERS)](imagination) for number in range(count)]


def _item(message: object) -> bytes:
    return json.dumps(message).encode()


def _foreign(some: Imagination) -> dict[str, Any]:
    kind = some.chance.choice(_FOREIGN_TYPES)
    return {**envelope(), "content-type": kind, "content-encoding": "binary", "body": encoded(list(some.noise()))}


def _protocol_1(some: Imagination) -> dict[str, Any]:
    body = {"task": "ledger.canary", "id": "j-1", "args": some.value(), "kwargs": {}, "retries": 0}
    return {**envelope(), "headers": {}, "body": encoded(body)}


def _spoilt_somewhere(some: Imagination) -> dict[str, Any]:
    """Replace one value anywhere in a message; it may well be one that does not matter."""
    message = envelope()
    place: dict[str, Any] = message
    while True:
        name = some.chance.choice(list(place))
        if not (isinstance(place[name], dict) and place[name] and some.chance.random() < 0.8):
            place[name] = some.value()
            return message
        place = place[name]


_MAKERS: tuple[Maker, ...] = (
    Imagination.noise,
    lambda some: _item(some.value()),
    lambda some: _item(envelope())[: some.chance.randrange(1, 400)],
    lambda some: _item(envelope(headers=some.bad(BAD_HEADERS))),
    lambda some: _item(envelope(headers=some.bad(BAD_HEADERS))),
    lambda some: _item(envelope(properties=some.bad(BAD_PROPERTIES))),
    lambda some: _item({**envelope(), **some.bad(BAD_PARTS)}),
    lambda some: _item({**envelope(), "headers": some.value()}),
    lambda some: _item({**envelope(), "properties": some.value()}),
    lambda some: _item({**envelope(), "body": encoded(some.value())}),
    lambda some: _item(envelope(body=encoded([some.value(), some.value(), some.value()]))),
    lambda some: _item(envelope(task=f"nobody.does.{some.chance.random()}")),
    lambda some: _item(envelope(payload=some.chance.choice(_WRONG_PAYLOADS))),
    lambda some: _item(_foreign(some)),
    lambda some: _item(_protocol_1(some)),
    lambda some: _item(_spoilt_somewhere(some)),
    lambda some: _item(_spoilt_somewhere(some)),
    lambda some: b"[" * some.chance.randrange(1, 20_000),
    lambda some: _item(
        {"__type__": some.chance.choice(["decimal", "uuid", "date", "bytes"]), "__value__": some.value()}
    ),
)
