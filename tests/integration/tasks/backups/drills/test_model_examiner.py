"""A restored model is asked what it predicts, in a process of its own, and never before its bytes were compared."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.backups.drills.subjects import Subject
from tasks.backups.manifest import ConfigFile, Manifest, Member
from tasks.backups.staging import Limits
from tasks.backups.store.drills.model import ModelExaminer
from tests.integration.tasks.backups.drills.subjects import silent, tried

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [[float(n % 5), float(n % 3)] for n in range(40)]


class Hostile:
    """Runs a command when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.fixture
def trained() -> Any:
    return LogisticRegression().fit(ROWS, [n % 5 > 2 for n in range(40)])


def restored(directory: Path, model: object, golden: object) -> Subject:
    """Put a model and its manifest where a restore puts them."""
    (directory / "model").mkdir()
    (directory / "scratch").mkdir()
    joblib.dump(model, directory / "model" / "model.pkl")
    (directory / "model" / "model.manifest.json").write_text(json.dumps({"golden": golden}))
    names = ("model/model.pkl", "model/model.manifest.json")
    members = [
        Member(
            name=name,
            part="model",
            size_bytes=(directory / name).stat().st_size,
            sha256=hashlib.sha256((directory / name).read_bytes()).hexdigest(),
        )
        for name in names
    ]
    now = datetime(2026, 3, 1, tzinfo=UTC)
    manifest = Manifest(
        point="0" * 12,
        run="run",
        profile="default",
        kind="full",
        chain="0" * 12,
        sequence=0,
        parent=None,
        reason="asked for",
        taken_at=now,
        began_at=now,
        tools={},
        members=tuple(members),
        files=tuple(ConfigFile(member=name, part="model", origin=name, mode=0o600) for name in names),
        size_bytes=1,
    )
    return Subject(manifest=manifest, restored=directory, scratch=directory / "scratch", limits=Limits(nice=0))


def golden_of(model: Any) -> dict[str, Any]:
    return {"rows": ROWS[:8], "predictions": model.predict_proba(ROWS[:8]).tolist()}


def outcomes(subject: Subject) -> dict[str, str]:
    return {check.name: check.outcome for check in ModelExaminer().examine(subject, silent)}


def test_every_mutant_is_noticed(tmp_path: Path, trained: Any) -> None:
    """By its bytes where they differ, and where even the hashes were made right by what it predicts."""
    subject = restored(tmp_path, trained, golden_of(trained))
    assert outcomes(subject) == {"model.file": "equal", "model.load": "equal"}
    noticed = {one.name: list(one.noticed_by) for one in tried(ModelExaminer(), subject)}
    assert noticed == {
        "model.flip-a-bit": ["model.file"],
        "model.truncate": ["model.file"],
        "model.lose-the-file": ["model.file"],
        "model.predict-otherwise": ["model.load"],
        "model.no-model-at-all": ["model.load"],
    }
    assert [*subject.scratch.iterdir()] == []


def test_nothing_is_loaded_of_which_a_byte_differs(tmp_path: Path, trained: Any) -> None:
    """A file that somebody has put in its place runs nothing."""
    subject = restored(tmp_path, trained, golden_of(trained))
    joblib.dump(Hostile(tmp_path / "touched"), tmp_path / "model" / "model.pkl")
    assert outcomes(subject) == {"model.file": "differs", "model.load": "nothing to compare"}
    assert not (tmp_path / "touched").exists()


def test_what_is_no_model_is_told(tmp_path: Path, trained: Any) -> None:
    """What was captured under a right hash, and predicts nothing, is what it was: nobody can say more."""
    subject = restored(tmp_path, Hostile(tmp_path / "touched"), golden_of(trained))
    checks = ModelExaminer().examine(subject, silent)
    assert [check.outcome for check in checks] == ["equal", "unable"]
    assert "cannot be asked" in checks[1].unable


def test_a_model_that_predicts_otherwise_is_told(tmp_path: Path, trained: Any) -> None:
    """Although each of its bytes is what it was: whoever restores it has to know."""
    golden = golden_of(trained)
    golden["predictions"][3] = [0.5, 0.5]
    checks = ModelExaminer().examine(restored(tmp_path, trained, golden), silent)
    assert [check.outcome for check in checks] == ["equal", "differs"]
    assert "1 of 8 golden rows are predicted otherwise, first 3" in checks[1].differences[0]


@pytest.mark.parametrize("golden", [None, {"rows": [], "predictions": []}, {"rows": 1}, [], "text"], ids=repr)
def test_without_golden_rows_nothing_is_predicted(tmp_path: Path, trained: Any, golden: object) -> None:
    """That is told, and is no difference: the bytes are what they were."""
    subject = restored(tmp_path, trained, golden)
    said = "nothing to compare" if golden is None else "unable"
    assert outcomes(subject) == {"model.file": "equal", "model.load": said}
