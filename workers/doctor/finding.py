"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    """Its name, in kebab case; part of the interface."""
    level: Level
    """`warning`: it works, but not for ever. `error`: something is broken or can be lost."""
    detail: str
    fix: str = ""
    """What to do about it, as a command line; empty when all is well."""


def ok(check: str, detail: str) -> Finding:
    """Say that all is well."""
    return Finding(check=check, level="ok", detail=detail)


def warning(check: str, detail: str, *, fix: str) -> Finding:
    """Say that it will not stay well."""
    return Finding(check=check, level="warning", detail=detail, fix=fix)


def error(check: str, detail: str, *, fix: str) -> Finding:
    """Say that it is not well."""
    return Finding(check=check, level="error", detail=detail, fix=fix)
