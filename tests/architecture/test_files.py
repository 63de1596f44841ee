"""Every file keeps the rules that a reviewer would otherwise have to remember."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.architecture import rules
from tests.architecture.house import PACKAGES, ROOT, Source, files, sources

if TYPE_CHECKING:
    from pathlib import Path

_LONG_BODY = "    x = 1\n" * 51
_LONG_JOB = "    x = 1\n" * 11
_MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root|home|Users)/\w+")
_INDEX_HOST = re.compile(
    r"https?://[^\s/]*(pypi|pythonhosted|artifactory|nexus|devpi)|file:/{2}/|--(extra-)?index-url=?\s*\S*//"
)
_SECRET = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|AKIA[0-9A-Z]{16}")

_BROKEN = [
    (rules.is_short, "tasks/long.py", "x = 1\n" * 401),
    (rules.has_short_functions, "tasks/long.py", f"def f():\n{_LONG_BODY}"),
    (rules.has_short_jobs, "tasks/x/jobs.py", f"@job(M, retry=R)\ndef f():\n    'Do.'\n{_LONG_JOB}"),
    (rules.has_short_jobs, "tasks/x/jobs.py", f"@doorbell(M)\ndef f():\n{_LONG_JOB}"),
    (rules.has_telling_names, "tasks/utils.py", ""),
    (rules.has_telling_names, "tasks/common/things.py", ""),
    (rules.has_telling_names, "tasks/x.py", "class JobManager: ..."),
    (rules.has_telling_names, "tasks/x.py", "def handle(): ..."),
    (rules.has_telling_names, "tasks/x.py", "data = 1"),
    (rules.has_telling_names, "tasks/x.py", "def f(data): ..."),
    (rules.unpickles_nothing, "tasks/x.py", "import pickle"),
    (rules.unpickles_nothing, "tasks/x.py", "def f():\n    from pickle import loads"),
    (rules.introduces_itself, "tasks/__init__.py", '"""."""'),
    (rules.introduces_itself, "tasks/__init__.py", ""),
    (rules.tests_state_facts, "tests/unit/test_x.py", "def test_x(): ..."),
    (rules.tests_state_facts, "tests/unit/test_x.py", "from unittest import mock"),
    (rules.tests_state_facts, "tests/unit/test_x.py", "import time\ntime.sleep(1)"),
]


@pytest.mark.parametrize("rule", rules.RULES)
def test_every_file_keeps(rule: rules.Rule) -> None:
    """No file breaks the rule."""
    assert [f"{source.path}: {fault}" for source in sources() for fault in rule(source)] == []


@pytest.mark.parametrize(("rule", "path", "text"), _BROKEN)
def test_a_rule_can_be_broken(rule: rules.Rule, path: str, text: str) -> None:
    """Each rule finds what it is there for."""
    assert list(rule(Source.parse(path, text))) != []


def test_every_rule_was_broken_once() -> None:
    """No rule is without a proof that it can fail."""
    assert {rule for rule, _, _ in _BROKEN} == set(rules.RULES)


def test_every_folder_with_code_is_a_package() -> None:
    """Folders of Python files have an `__init__.py`, so that imports and this test find them."""
    folders = {path.parent for path in files() if path.suffix == ".py"}
    inside = [ROOT / folder for folder in [*PACKAGES.values(), "tests"]]
    missing = [
        str(folder.relative_to(ROOT))
        for folder in sorted(folders)
        if any(folder.is_relative_to(package) for package in inside) and not (folder / "__init__.py").exists()
    ]
    assert missing == []


def test_no_file_names_a_machine_an_index_or_a_secret() -> None:
    """The checkout works anywhere, and carries no key."""
    assert [fault for path in files() for fault in _private_matters(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "home/ada/notes",
        "PATH=/" + "work/main/.venv/bin",
        "https://" + "pypi.org/simple",
        "--hash=sha256:00 # https://files." + "pythonhosted.org/x",
        "-----BEGIN " + "RSA PRIVATE KEY-----",
    ],
)
def test_private_matters_are_found(tmp_path: Path, line: str) -> None:
    """A path of a machine, an index or a key is found in any text."""
    path = tmp_path / "notes.md"
    path.write_text(f"first line\n{line}\n", encoding="utf-8")
    assert len(list(_private_matters(path))) == 1


def _private_matters(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    patterns = (_MACHINE_PATH, _INDEX_HOST, _SECRET)
    return [
        f"{path}:{number}: {found.group()}"
        for number, line in enumerate(lines, start=1)
        for pattern in patterns
        if (found := pattern.search(line))
    ]
