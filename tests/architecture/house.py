"""The tree under test: where things are, and which files are ours."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGES = {"workers": "workers", "tasks": "tasks", "schedules": "schedules", "nightcrew": "producer/src/nightcrew"}
"""Import name and folder of everything that runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Python file, parsed."""

    path: str
    """Relative to the root, with slashes."""
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> Source:
        return cls(path=path, text=text, tree=ast.parse(text))

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Give every function and method."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def files() -> Iterator[Path]:
    """Give every file of the checkout that .gitignore does not leave out."""
    ignored = [line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()]
    patterns = [".git", *filter(None, ignored)]
    pending = [ROOT]
    while pending:
        for entry in sorted(pending.pop().iterdir()):
            if any(fnmatch(entry.name, pattern) for pattern in patterns):
                continue
            if entry.is_dir():
                pending.append(entry)
            else:
                yield entry


@cache
def sources() -> tuple[Source, ...]:
    """Give every Python file of the checkout."""
    return tuple(
        Source.parse(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in files()
        if path.suffix == ".py"
    )


def project(folder: str = ".") -> dict[str, Any]:
    """Read a pyproject.toml."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))
