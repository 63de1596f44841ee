"""A restored model, compared with the manifest for equality, and asked what it predicts.

model.file    every byte of the model and of what lies beside it
model.load    a process of its own loads it, and it gives the predictions that its manifest wrote down (`golden`)

Nothing is loaded of which a byte differs. A model whose manifest has no golden rows is only compared by its bytes, and
that is told: nothing was predicted.

    model.manifest.json    {..., "golden": {"rows": [[number, ...], ...], "predictions": [...]}}
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.drills.subjects import Mutant
from tasks.backups.drills.verdicts import Check
from tasks.backups.store.drills.copies import chance, copy_file, flip_bit, trial_directory
from tasks.backups.store.drills.files import path_of
from tasks.backups.store.hashing import DamagedMemberError, check_member, sha256_of
from tasks.backups.store.programs import polite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from random import Random

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.manifest import ConfigFile
    from tasks.backups.staging import Progress

_MANIFEST_ENDING: Final = ".manifest.json"
_CHILD: Final = "tasks.backups.store.drills.model_child"
_PATIENCE_S: Final = 300.0
_TICK_S: Final = 0.5
_MOST_GOLDEN: Final = 1_000
_BITS: Final = 8
_TOLERANCE: Final = 1e-9
"""Of a prediction: another processor may add up in another order."""


class ModelExaminer:
    """Looks at the restored model."""

    artefact: Artefact = "model"

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Compare its bytes and ask it; nothing, if the point has no model."""
        files = _files(subject)
        if not files:
            return ()
        content = _contents(subject, files, progress)
        if content.differences:
            return [content, _check("load", 0)]
        return [content, _ask(subject, progress)]

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage it."""
        if not _files(subject):
            return []
        trials = _Trials(subject=subject, examine=self.examine, progress=progress)
        golden = "" if _golden(subject) else "the model's manifest has no golden rows"
        return [
            *(trials.of(name, harm) for name, harm in _HARMS.items()),
            Mutant(name="model.predict-otherwise", artefact="model", trial=trials.ask_otherwise, not_possible=golden),
            Mutant(name="model.no-model-at-all", artefact="model", trial=trials.load_nonsense, not_possible=golden),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Golden:
    rows: Sequence[Any]
    predictions: Sequence[Any]


def _files(subject: Subject) -> Sequence[ConfigFile]:
    return [file for file in subject.manifest.files if file.part == "model"]


def _model(subject: Subject) -> Path:
    """Give the model itself: it is the first of its part."""
    return subject.restored / path_of(_files(subject)[0])


def _golden(subject: Subject) -> _Golden | None:
    """Read what the model must predict.

    Raises:
        ValueError: the manifest is there and cannot be read.
    """
    beside = [file for file in _files(subject) if file.member.endswith(_MANIFEST_ENDING)]
    if not beside:
        return None
    document = json.loads((subject.restored / path_of(beside[0])).read_bytes())
    golden = document.get("golden") if isinstance(document, dict) else None
    if golden is None:
        return None
    rows, predictions = golden["rows"][:_MOST_GOLDEN], golden["predictions"][:_MOST_GOLDEN]
    if not rows or len(rows) != len(predictions):
        msg = f"{len(rows)} golden rows and {len(predictions)} predictions"
        raise ValueError(msg)
    return _Golden(rows=rows, predictions=predictions)


def _contents(subject: Subject, files: Sequence[ConfigFile], progress: Progress) -> Check:
    said = []
    for file in files:
        member = subject.manifest.member(file.member)
        try:
            check_member(subject.restored / path_of(file), member, tick=lambda done: progress("hash model", done))
        except DamagedMemberError as error:
            said.append(str(error))
    return _check("file", len(files), said, unit="files")


def _ask(subject: Subject, progress: Progress) -> Check:
    """Have the model predict its golden rows."""
    try:
        golden = _golden(subject)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # It is what was captured: whoever wrote it is to look, the backup is not to blame.
        return _check("load", 0, unable=f"the model's manifest cannot be read: {type(error).__name__}: {error}")
    if golden is None:
        return _check("load", 0)
    answer = _child_answer(_model(subject), golden, subject, progress)
    if "error" in answer:
        # Every byte of it is as it was captured: a library that is missing or newer, or little memory, is no damage.
        return _check("load", 0, unable=f"the model cannot be asked: {answer['error']}")
    wrong = [
        number
        for number, (now, then) in enumerate(zip(answer["predictions"], golden.predictions, strict=True))
        if not _is_close(now, then)
    ]
    said = (
        [f"{len(wrong)} of {len(golden.rows)} golden rows are predicted otherwise, first {wrong[0]}"] if wrong else []
    )
    return _check("load", len(golden.rows), said)


def _child_answer(model: Path, golden: _Golden, subject: Subject, progress: Progress) -> Mapping[str, Any]:
    question = json.dumps({"file": str(model), "rows": golden.rows})
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*polite(subject.limits, at_death="KILL"), sys.executable, "-I", "-B", "-m", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=subject.scratch,
        env=environment,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            said = _communicate(child, question, progress)
        finally:
            child.kill()
    try:
        answer = json.loads(said)
    except ValueError:
        return {"error": f"it ended with {child.returncode} and said nothing"}
    if not isinstance(answer, dict) or not ("error" in answer or len(answer["predictions"]) == len(golden.rows)):
        return {"error": "it gave no prediction for some of the rows"}
    return answer


def _communicate(child: subprocess.Popen[str], question: str, progress: Progress) -> str:
    waited_s = 0.0
    sent: str | None = question
    while waited_s < _PATIENCE_S:
        try:
            return child.communicate(sent, timeout=_TICK_S)[0]
        except subprocess.TimeoutExpired:
            sent = None
            waited_s += _TICK_S
            progress("ask model", 0)
    return ""


def _is_close(now: Any, then: Any) -> bool:
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(_is_close, now, then))
    if isinstance(now, float | int) and isinstance(then, float | int):
        return math.isclose(now, then, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(now == then)


def _check(name: str, examined: int, differences: Sequence[str] = (), *, unit: str = "rows", unable: str = "") -> Check:
    return Check(
        name=f"model.{name}", artefact="model", examined=examined, unit=unit, differences=differences, unable=unable
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    subject: Subject
    examine: Callable[[Subject, Progress], Sequence[Check]]
    progress: Progress

    def of(self, damage: str, harm: Callable[[Path, Random], None]) -> Mutant:
        name = f"model.{damage}"
        trial = lambda: self._try(lambda copy, _: harm(copy, chance(self.subject, name)))  # noqa: E731  one expression
        return Mutant(name=name, artefact="model", trial=trial)

    def ask_otherwise(self) -> Sequence[Check]:
        """Expect other predictions, in a manifest whose hash is right: only asking the model tells."""

        def harm(copy: Path, beside: Path) -> None:
            del copy
            document = json.loads(beside.read_bytes())
            predictions = document["golden"]["predictions"]
            predictions[len(predictions) // 2] = -1.5
            beside.write_text(json.dumps(document))

        return self._try(harm, with_right_hashes=True)

    def load_nonsense(self) -> Sequence[Check]:
        """Put something in its place that is no model, under a hash that is right."""
        return self._try(lambda copy, _beside: copy.write_bytes(b"no model"), with_right_hashes=True)

    def _try(self, harm: Callable[[Path, Path], Any], *, with_right_hashes: bool = False) -> Sequence[Check]:
        files = _files(self.subject)
        with trial_directory(self.subject.scratch) as directory:
            copies = {}
            for file in files:
                copies[file.member] = directory / path_of(file)
                copy_file(self.subject.restored / path_of(file), copies[file.member], self.progress)
            beside = next((path for name, path in copies.items() if name.endswith(_MANIFEST_ENDING)), directory)
            harm(copies[files[0].member], beside)
            subject = replace(self.subject, restored=directory)
            looked = self.examine(_rehashed(subject, copies) if with_right_hashes else subject, self.progress)
        # Of a mutant it is known that the model could be asked before: that it cannot be any more is a difference.
        return [
            replace(check, differences=(check.unable,), unable="") if with_right_hashes and check.unable else check
            for check in looked
        ]


def _rehashed(subject: Subject, copies: Mapping[str, Path]) -> Subject:
    """Write the hashes of damaged copies into the manifest."""
    members = tuple(
        member.model_copy(
            update={
                "size_bytes": copies[member.name].stat().st_size,
                "sha256": sha256_of(copies[member.name], tick=lambda _: None),
            }
        )
        if member.name in copies
        else member
        for member in subject.manifest.members
    )
    return replace(subject, manifest=subject.manifest.model_copy(update={"members": members}))


def _flip_bit(copy: Path, random: Random) -> None:
    flip_bit(copy, random.randrange(copy.stat().st_size), random.randrange(_BITS))


def _truncate(copy: Path, random: Random) -> None:
    with copy.open("r+b") as file:
        file.truncate(random.randrange(copy.stat().st_size))


def _lose(copy: Path, _random: Random) -> None:
    copy.unlink()


_HARMS: Final[Mapping[str, Callable[[Path, Random], None]]] = {
    "flip-a-bit": _flip_bit,
    "truncate": _truncate,
    "lose-the-file": _lose,
}
