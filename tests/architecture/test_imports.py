"""The contracts of import-linter hold, and each of them can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.house import PACKAGES, ROOT, project

_INTRUSIONS = [
    ("direction", "tasks/usage/merging.py", "import workers.database"),
    ("direction", "schedules/slots.py", "import tasks.errors"),
    ("direction", "producer/src/nightcrew/wire.py", "import tasks.errors"),
    ("slices", "tasks/runtime.py", "import tasks.ledger.states"),
    ("slices", "tasks/ledger/states.py", "import tasks.job"),
    ("slices", "tasks/helpers.py", ""),
    ("jobs", "tasks/job.py", "import tasks.usage.jobs"),
    ("usage-store", "tasks/usage/merging.py", "import tasks.usage.store.log"),
    ("ledger-store", "tasks/ledger/states.py", "import tasks.ledger.store.runs"),
    ("backups-store", "tasks/backups/backup.py", "import tasks.backups.store.book"),
    ("values-store", "tasks/values/changes.py", "import tasks.values.store.rows"),
    ("predictions-store", "tasks/predictions/ranking.py", "import tasks.predictions.store"),
    ("ttl-store", "tasks/ttl/replay.py", "import tasks.ttl.store"),
    ("celery", "tasks/usage/jobs.py", "import celery"),
    ("celery", "producer/src/nightcrew/messages/usage.py", "from celery import Celery"),
    ("redis", "tasks/usage/drain.py", "import redis"),
    ("sql", "tasks/usage/drain.py", "import sqlalchemy"),
    ("messages", "producer/src/nightcrew/messages/usage.py", "import pydantic"),
    ("messages", "producer/src/nightcrew/errors.py", "import redis"),
    ("cycles", "tasks/usage/entries.py", "import tasks.usage.merging"),
]
_CONTRACTS = [contract["id"] for contract in project()["tool"]["importlinter"]["contracts"]]


def test_the_contracts_hold() -> None:
    """What may import what is kept by every module."""
    code, output = _lint(ROOT)
    assert code == 0, output


@pytest.mark.parametrize(("contract", "module", "line"), _INTRUSIONS)
def test_a_contract_breaks(tmp_path: Path, contract: str, module: str, line: str) -> None:
    """One wrong import in a copy of the tree breaks the contract that is there for it."""
    for folder in PACKAGES.values():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    code, output = _lint(tmp_path, "--contract", contract)
    assert code == 1, output
    assert "0 kept, 1 broken" in output


def test_every_contract_was_broken_once() -> None:
    """No contract is without a proof that it can fail."""
    assert {contract for contract, _, _ in _INTRUSIONS} == set(_CONTRACTS)


def _lint(tree: Path, *options: str) -> tuple[int, str]:
    program = Path(sys.executable).with_name("lint-imports")
    folders = {str(tree / folder).removesuffix(f"/{name}") for name, folder in PACKAGES.items()}
    finished = subprocess.run(
        [program, "--no-cache", "--no-logo", *options],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.returncode, finished.stdout + finished.stderr
