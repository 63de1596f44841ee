"""Which model serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.predictions.store.models import ModelShelf, NoModelError

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.predictions.manifest import ModelManifest


def shelf_of(data_dir: Path) -> ModelShelf:
    """Give the models of the crew in a data directory."""
    return ModelShelf(directory=data_dir / "models", key_file=data_dir / "keys" / "models.key", published=data_dir)


def verify(shelf: ModelShelf, version: str) -> ModelManifest:
    """Check all that is checked before a model serves.

    Raises:
        NoModelError: there is none of this version.
        UntrustedModelError: it must not serve; the text says why.
    """
    return shelf.load(version).manifest


def activate(shelf: ModelShelf, version: str) -> ModelManifest:
    """Let a version serve.

    Raises:
        NoModelError: there is none of this version.
        UntrustedModelError: it must not serve; the one before serves on.
    """
    return shelf.activate(version)


def roll_back(shelf: ModelShelf) -> ModelManifest:
    """Let the version serve again that did before the active one.

    Raises:
        NoModelError: there is none.
        UntrustedModelError: it must not serve; the active one serves on.
    """
    active = shelf.active()
    before = shelf.manifest(active).previous if active is not None else None
    if before is None:
        msg = "no model served before this one"
        raise NoModelError(msg)
    return shelf.activate(before)
