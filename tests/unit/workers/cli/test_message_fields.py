"""Fields of a message on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from nightcrew.errors import InvalidMessageError
from nightcrew.messages import DrainUsage, RunCanary
from workers.cli.message_fields import make_message

if TYPE_CHECKING:
    from nightcrew.messages import Message


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Has a field of each type. No real message: that would be known to all other tests."""

    kind: ClassVar[str] = "test.sampler"
    share: float = 0.0
    dry: bool = False
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    note: str | None = None

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Sampler:
        return cls(**payload)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("share=0.5", ("share", 0.5)),
        ("dry=true", ("dry", True)),
        ("dry=No", ("dry", False)),
        ("names=a,b", ("names", ("a", "b"))),
        ('names=["a,b"]', ("names", ("a,b",))),
        ("numbers=1,2", ("numbers", (1, 2))),
        ("numbers=[1, 2]", ("numbers", (1, 2))),
        ("names=", ("names", ())),
        ("note=null", ("note", None)),
        ("note=a=b", ("note", "a=b")),
    ],
)
def test_values_are_read_by_type(assignment: str, expected: tuple[str, Any]) -> None:
    """The annotation of the field decides what a text means."""
    name, value = expected
    assert getattr(make_message(cast("type[Message]", Sampler), [assignment]), name) == value


def test_text_stays_text() -> None:
    """What looks like a number or null is text where text is wanted."""
    assert make_message(RunCanary, ["note=null"]) == RunCanary(note="null")
    assert make_message(DrainUsage, ["partition=3"]) == DrainUsage(partition=3)
    assert make_message(DrainUsage, ["partition=null"]) == DrainUsage()


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("nte=x", "it has note"),
        ("note", "write name=value"),
        (f"note={'x' * 201}", "at most 200"),
    ],
)
def test_wrong_fields(assignment: str, text: str) -> None:
    """Errors name the fields there are, and what the message itself refuses."""
    with pytest.raises(InvalidMessageError, match=text):
        make_message(RunCanary, [assignment])


@pytest.mark.parametrize("assignment", ["partition=x", "partition=-1", "partition=1.5"])
def test_wrong_values(assignment: str) -> None:
    """A value that is not of the field's type is refused."""
    with pytest.raises(InvalidMessageError, match="partition"):
        make_message(DrainUsage, [assignment])
