"""No model serves that nobody vouched for, and nothing of it runs before somebody has."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from tasks.predictions import manifest as notes
from tasks.predictions.manifest import FileNote, ModelManifest, UntrustedModelError, version_of
from tasks.predictions.operations import activate, predict_file, roll_back, train, verify
from tasks.predictions.store import models, trial
from tasks.predictions.store.models import ModelShelf, NoModelError, libraries, note_of
from tests.integration.tasks.predictions.conftest import NOW, write_uses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.tasks.predictions.conftest import Crew

# `cos` + `system` + the command: what `pickle` writes for an object whose `__reduce__` gives `os.system`.
_RUNS = b"cos\nsystem\n(S'touch %s'\ntR."
_BOMB = b"\x80\x04" + b"(" + b"I1\n" * 10 + b"l" + b"2" * 200 + b"."


def test_a_model_that_was_kept_is_loaded_and_predicts_the_same(crew: Crew) -> None:
    """To the last bit, from the format that is served."""
    loaded = crew.shelf.load(crew.version)
    rows = np.array(loaded.manifest.golden_rows, dtype=np.float32)
    assert loaded.classifier.predict_proba(rows).tolist() == crew.trained.learned.golden_predictions.tolist()
    assert len(loaded.history) == len(crew.trained.read.events)
    assert loaded.manifest == crew.trained.manifest


def test_the_active_model_lies_where_backups_look_for_it(crew: Crew) -> None:
    """The same bytes, with what vouches for them."""
    for name in (notes.PICKLE, notes.SERVED, notes.HISTORY, notes.MANIFEST, notes.SIGNATURE):
        assert (crew.directory / name).read_bytes() == crew.place(name).read_bytes()


@pytest.mark.parametrize("name", [notes.PICKLE, notes.SERVED, notes.HISTORY, notes.MANIFEST, notes.SIGNATURE])
def test_one_bit_is_enough(crew: Crew, name: str, seed: int) -> None:
    """Anywhere in any of its files."""
    chance = random.Random(seed)
    whole = crew.place(name).read_bytes()
    for _ in range(10):
        place = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        crew.place(name).write_bytes(damaged)
        with pytest.raises(UntrustedModelError):
            crew.shelf.load(crew.version)


@pytest.mark.parametrize("name", [notes.PICKLE, notes.SERVED, notes.HISTORY, notes.MANIFEST, notes.SIGNATURE])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_is_refused(crew: Crew, name: str, keep: float) -> None:
    """At any length, and where it is gone."""
    whole = crew.place(name).read_bytes()
    crew.place(name).write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(UntrustedModelError):
        crew.shelf.load(crew.version)
    crew.place(name).unlink()
    with pytest.raises((UntrustedModelError, NoModelError)):
        crew.shelf.load(crew.version)


@pytest.mark.parametrize("hostile", ["runs", "bomb"])
def test_a_pickle_that_nobody_signed_is_not_read(
    crew: Crew, tmp_path: Path, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither here nor in a process of its own: its bytes are compared and that is all."""
    trace = tmp_path / "it-ran"
    crew.place(notes.PICKLE).write_bytes(_RUNS % str(trace).encode() if hostile == "runs" else _BOMB)
    monkeypatch.setattr(models, "predict_in_child", _nobody)
    with pytest.raises(UntrustedModelError, match="not what its manifest says"):
        activate(crew.shelf, crew.version)
    assert not trace.exists()


def test_a_manifest_of_another_crew_is_refused(crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However right it is in itself."""
    other = ModelShelf(directory=crew.shelf.directory, key_file=tmp_path / "other.key")
    monkeypatch.setattr(models, "predict_in_child", _nobody)
    with pytest.raises(UntrustedModelError, match="not signed by this crew"):
        other.load(crew.version)


def test_code_in_the_served_format_is_refused_although_it_is_signed(crew: Crew, tmp_path: Path) -> None:
    """Types go by a list that stands in the code: a signature does not make them harmless."""
    trace = tmp_path / "it-ran"
    version = _signed(crew, served=skops.io.dumps({"call": _Touch(str(trace))}))
    with pytest.raises(UntrustedModelError, match="holds what is not to be loaded"):
        crew.shelf.load(version)
    assert not trace.exists()


def test_a_pickle_in_the_place_of_the_served_format_is_refused(crew: Crew) -> None:
    """It is no archive of skops."""
    version = _signed(crew, served=crew.place(notes.PICKLE).read_bytes())
    with pytest.raises(UntrustedModelError, match="cannot be read"):
        crew.shelf.load(version)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda model: replace(model, libraries={**model.libraries, "scikit-learn": "1.8.0"}), "scikit-learn 1.8.0"),
        (lambda model: replace(model, libraries={**model.libraries, "python": "3.9.1"}), "python 3.9.1"),
        (lambda model: replace(model, features={**model.features, "other": "x"}), "other features"),
        (lambda model: replace(model, golden_predictions=[[0.5, 0.5]] * 64), "does not predict"),
        (lambda model: replace(model, golden_rows=[[0.0] * 3]), "does not load"),
    ],
    ids=["scikit-learn", "python", "features", "predictions", "width"],
)
def test_a_model_that_does_not_fit_is_refused(
    crew: Crew, harm: Callable[[ModelManifest], ModelManifest], reason: str
) -> None:
    """Although it is signed: another library, other features, other predictions."""
    version = _signed(crew, harm=harm)
    with pytest.raises(UntrustedModelError, match=reason):
        crew.shelf.load(version)


def test_two_formats_that_are_not_one_model_are_refused(crew: Crew) -> None:
    """What is exchanged and what is served must predict alike."""
    rows = np.array(crew.trained.manifest.golden_rows, dtype=np.float32)
    other = LogisticRegression().fit(rows, [number % 2 == 0 for number in range(len(rows))])
    version = _signed(crew, served=skops.io.dumps(other))
    with pytest.raises(UntrustedModelError, match="does not predict"):
        crew.shelf.load(version)


def test_a_process_that_dies_or_hangs_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged tree can end a process by a signal: that is told, and the worker lives."""
    question: dict[str, Any] = {"pickle": b"", "served": b"", "trusted": (), "rows": [[0.0]]}
    with pytest.raises(UntrustedModelError, match="does not load"):
        trial.predict_in_child(**question)
    with pytest.raises(UntrustedModelError, match="had not loaded"):
        trial.predict_in_child(**question, patience_s=0.01)
    monkeypatch.setattr(trial, "_CHILD", "tests.integration.tasks.predictions.dying_child")
    with pytest.raises(UntrustedModelError, match="ended with"):
        trial.predict_in_child(**question)


def test_the_good_one_serves_on_when_the_next_is_refused(crew: Crew) -> None:
    """And predictions are still to be had."""
    version = _signed(crew, harm=lambda model: replace(model, golden_predictions=[[1.0, 0.0]] * 64))
    with pytest.raises(UntrustedModelError):
        activate(crew.shelf, version)
    assert crew.shelf.active() == crew.version
    done = predict_file(crew.shelf, crew.file, crew.directory / "out.csv")
    assert done.model_version == crew.version


def test_versions_change_places_and_back(crew: Crew, tmp_path: Path) -> None:
    """The newer one serves if it is better than the rules; rolling back gives the older one again."""
    newer = train(crew.shelf, write_uses(tmp_path / "more.csv", seed=2, habit="b"), now=NOW)
    assert newer.promoted
    assert crew.shelf.versions() == [crew.version, newer.manifest.version]
    assert crew.shelf.active() == newer.manifest.version
    assert roll_back(crew.shelf).version == crew.version
    assert crew.shelf.active() == crew.version
    assert (crew.directory / notes.MANIFEST).read_bytes() == crew.place(notes.MANIFEST).read_bytes()
    with pytest.raises(NoModelError):
        roll_back(crew.shelf)


def test_the_same_data_and_seed_give_the_same_version(crew: Crew) -> None:
    """To the byte: it is the version that is there already, and it does not become its own predecessor."""
    again = train(crew.shelf, crew.file, now=NOW)
    assert again.manifest.version == crew.version
    assert again.manifest.files[notes.PICKLE] == crew.trained.manifest.files[notes.PICKLE]
    assert again.manifest.previous is None
    assert train(crew.shelf, crew.file, now=NOW, seed=7).manifest.version != crew.version


def test_a_model_that_is_no_better_than_a_rule_does_not_serve(crew: Crew, tmp_path: Path) -> None:
    """It is kept, to be looked at."""
    chance = random.Random(5)
    lines = [
        f"2026-01-{1 + row // 96:02d}T{row % 96 // 4:02d}:{row % 4 * 15:02d}:00Z,p{row % 3},v{chance.randrange(4)}\n"
        for row in range(2_000)
    ]
    file = tmp_path / "noise.csv"
    file.write_text("ts,entity,value\n" + "".join(lines), encoding="utf-8")
    trained = train(crew.shelf, file, now=NOW)
    assert not trained.promoted
    assert "does not beat" in trained.reason
    assert crew.shelf.active() == crew.version
    assert trained.manifest.version in crew.shelf.versions()
    assert verify(crew.shelf, trained.manifest.version) == trained.manifest


def test_names_that_lead_elsewhere_are_no_versions(crew: Crew) -> None:
    """A version is a word, never a path."""
    for name in ("../models", "..", "", f"{crew.version}/../{crew.version}", "nothing"):
        with pytest.raises(NoModelError):
            crew.shelf.load(name)


def test_the_key_is_for_its_owner_alone(crew: Crew) -> None:
    """And one that is too short is none."""
    assert crew.shelf.key_file.stat().st_mode & 0o077 == 0
    crew.shelf.key_file.write_bytes(b"short")
    with pytest.raises(Exception, match="is no key of models"):
        crew.shelf.load(crew.version)


def test_no_half_version_stays(crew: Crew) -> None:
    """A training that fails leaves nothing on the shelf."""
    before = sorted(path.name for path in crew.shelf.directory.iterdir())
    with pytest.raises(FileNotFoundError), crew.shelf.folder() as folder:
        crew.shelf.add(folder, crew.trained.manifest)
    assert sorted(path.name for path in crew.shelf.directory.iterdir()) == before


class _Touch:
    """Leaves a trace when it is made from a pickle."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self._path, "w")


def _signed(
    crew: Crew,
    *,
    served: bytes | None = None,
    harm: Callable[[ModelManifest], ModelManifest] = lambda model: model,
) -> str:
    """Put a version on the shelf that the crew itself has signed."""
    with crew.shelf.folder() as folder:
        for name in (notes.PICKLE, notes.SERVED, notes.HISTORY):
            (folder / name).write_bytes(crew.place(name).read_bytes())
        if served is not None:
            (folder / notes.SERVED).write_bytes(served)
        (folder / notes.HISTORY).write_bytes(crew.place(notes.HISTORY).read_bytes() + b" ")  # another version
        files: dict[str, FileNote] = {
            name: note_of(folder / name) for name in (notes.PICKLE, notes.SERVED, notes.HISTORY)
        }
        manifest = replace(crew.trained.manifest, files=files, version=version_of(files), libraries=libraries())
        return crew.shelf.add(folder, harm(manifest)).version


def _nobody(**_: object) -> None:
    msg = "no process may be started for a file that nobody vouches for"
    raise AssertionError(msg)


def test_manifests_are_read_as_they_were_written(crew: Crew) -> None:
    """And what is none is refused."""
    content = crew.trained.manifest.to_bytes()
    assert ModelManifest.from_bytes(content) == crew.trained.manifest
    document = json.loads(content)
    for wrong in (b"", b"[]", b"{}", b"\xff", json.dumps({**document, "schema": 9}).encode(), b"[" * 100_000):
        with pytest.raises(UntrustedModelError):
            ModelManifest.from_bytes(wrong)
