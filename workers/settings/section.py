"""What the sections of the tree are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts, or what a text is, for people."""

    name: str


class Section(BaseModel):
    """A table of `nightcrew.toml`. What it holds is never repeated in an error: it may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


Seconds = Annotated[float, Field(gt=0), Unit("seconds")]
Retention = Annotated[float, Field(ge=1), Unit("seconds")]
Share = Annotated[float, Field(gt=0, le=1), Unit("(a share)")]
