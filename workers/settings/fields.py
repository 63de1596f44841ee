"""The tree as a flat list of settings: what loading, explaining and the generated documents go by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr

from workers.settings.section import Unit
from workers.settings.tree import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """One setting."""

    name: str
    """Dotted, as in `usage.partitions`."""
    description: str
    accepts: str
    """What values it takes, with their unit."""
    default: Any
    """None for no value."""
    is_secret: bool


@cache
def setting_fields() -> dict[str, SettingField]:
    """Give all settings by name, in the order of the tree."""
    found: dict[str, SettingField] = {}
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for inner, inner_info in section.model_fields.items():
                found[f"{name}.{inner}"] = _describe(f"{name}.{inner}", inner_info)
        else:
            found[name] = _describe(name, info)
    return found


def section_summaries() -> dict[str, str]:
    """Give the first line of each section's docstring, by the section's name."""
    return {
        name: (info.annotation.__doc__ or "").partition("\n")[0]
        for name, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }


def _describe(name: str, info: FieldInfo) -> SettingField:
    options = _alternatives(info.annotation)
    return SettingField(
        name=name,
        description=info.description or "",
        accepts=_accepts(options, info.metadata),
        default=None if info.is_required() else info.get_default(call_default_factory=True),
        is_secret=SecretStr in options or any(SecretStr in get_args(option) for option in options),
    )


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Give the values of a Literal, the members of a union but None, or the one type."""
    if get_origin(annotation) is Literal or isinstance(annotation, UnionType):
        return tuple(option for option in get_args(annotation) if option is not NoneType)
    return (annotation,)


def _accepts(options: tuple[Any, ...], metadata: list[Any]) -> str:
    if isinstance(options[0], str):
        return " · ".join(f"`{option}`" for option in options)
    if options[0] is bool:
        return "`true` · `false`"
    units = [note.name for note in metadata if isinstance(note, Unit)]
    if get_origin(options[0]) is tuple:
        return units[0] if units else "list of keys (secret)"
    if get_origin(options[0]) is dict:
        return units[0] if units else "URLs by entry (secret)"
    if not units:
        return "URL (secret)" if options[0] is SecretStr else "path"
    return " ".join([*_bounds(metadata), *units])


def _bounds(metadata: list[Any]) -> list[str]:
    lowest = next((note.ge for note in metadata if isinstance(note, Ge)), None)
    above = next((note.gt for note in metadata if isinstance(note, Gt)), None)
    highest = next((note.le for note in metadata if isinstance(note, Le)), None)
    if highest is not None:
        return [f"more than {above}, up to {highest}" if lowest is None else f"{lowest} to {highest}"]
    if lowest is not None:
        return [f"at least {lowest}"]
    return [] if above is None else [f"more than {above}"]
