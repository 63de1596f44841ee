"""The documents that are made of the tree."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from workers.generated_docs import example_file, generated_documents
from workers.settings import load_settings
from workers.settings.fields import setting_fields

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("path", generated_documents(), ids=lambda path: str(path.name))
def test_documents_are_fresh(path: Path) -> None:
    """The files in the checkout are what the tree gives: `python -m workers.generated_docs` writes them."""
    assert path.read_text(encoding="utf-8") == generated_documents()[path]


def test_every_field_is_described() -> None:
    """Each setting has a sentence, and each number a unit."""
    for field in setting_fields().values():
        assert field.description.rstrip(".") + "." == field.description, field.name
        assert not field.accepts.split()[-1].isdigit(), field.name


def test_example_sets_nothing(tmp_path: Path) -> None:
    """Copied as it is, the example changes no setting."""
    (tmp_path / "nightcrew.toml").write_text(example_file(), encoding="utf-8")
    assert load_settings(tmp_path, {}) == load_settings(tmp_path / "other", {}).model_copy(
        update={"data_dir": tmp_path}
    )


def test_example_holds_the_defaults(tmp_path: Path) -> None:
    """With every line taken in, the example is valid and still gives the defaults."""
    lines = example_file().splitlines()
    names = {name.partition(".")[2] for name in setting_fields()}
    active = [line[2:] if line[2:].partition(" = ")[0] in names else line for line in lines]
    tomllib.loads("\n".join(active))
    (tmp_path / "nightcrew.toml").write_text("\n".join(active), encoding="utf-8")
    settings = load_settings(tmp_path, {})
    assert len(settings.origins) == len(setting_fields())
    assert settings.usage == load_settings(tmp_path / "other", {}).usage
