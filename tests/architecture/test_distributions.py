"""What is installed where: the service owns generic names, the producer library exactly one."""

from __future__ import annotations

import re
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.architecture.house import PACKAGES, ROOT, files, project

_MAP = re.compile(
    r"^#+ [^\n]*\bmap\b[^\n]*\n+(?:[^`#][^\n]*\n+)*```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE | re.IGNORECASE
)


@pytest.mark.parametrize("name", ["workers", "tasks", "schedules", "tests"])
def test_nobody_else_offers_our_generic_names(name: str) -> None:
    """No other installed distribution has a package of this name, and the one imported is ours."""
    assert set(packages_distributions().get(name, ())) <= {"nightcrew-workers"}
    spec = find_spec(name)
    assert spec is not None
    assert Path(str(spec.origin)) == ROOT / name / "__init__.py"


def test_the_producer_library_has_one_top_level_name() -> None:
    """The wheel that apps install brings `nightcrew` and nothing else."""
    targets = project("producer")["tool"]["hatch"]["build"]["targets"]
    assert targets == {"wheel": {"packages": ["src/nightcrew"]}}
    assert [path.name for path in sorted((ROOT / "producer" / "src").iterdir()) if path.is_dir()] == ["nightcrew"]


def test_the_producer_library_stays_thin() -> None:
    """Apps get Celery with Redis and hiredis, and nothing of the service."""
    requirements = project("producer")["project"]["dependencies"]
    assert {re.split(r"[\[<>=~ ]", requirement)[0] for requirement in requirements} == {"celery", "hiredis"}


def test_the_service_installs_its_three_packages() -> None:
    """The wheel of the service has the packages of the map; tests, data and ops stay in the checkout."""
    packages = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {*packages, "nightcrew"} == set(PACKAGES)


def test_the_map_of_the_readme_is_the_tree() -> None:
    """The fenced block under the heading with the word "map" names every top-level folder, and nothing else."""
    found = _MAP.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None, "README.md has no fenced block under a heading with the word 'map'"
    named = {line.split()[0].rstrip("/") for line in found.group(1).splitlines() if line[:1].strip()}
    folders = {path.relative_to(ROOT).parts[0] for path in files() if path.parent != ROOT}
    assert {folder for folder in folders if not folder.startswith(".")} - named == set()
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
