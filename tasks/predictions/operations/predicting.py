"""Predictions for the rows of a file, here and now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.predictions import measures
from tasks.predictions.drift import Reference
from tasks.predictions.events import UNKNOWN
from tasks.predictions.merging import united, with_shared_numbers
from tasks.predictions.ranking import rank
from tasks.predictions.reading import read_events
from tasks.predictions.store.models import NoModelError
from tasks.predictions.store.output import write_predictions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasks.predictions.events import Events
    from tasks.predictions.ranking import Ranked
    from tasks.predictions.reading import ReadEvents
    from tasks.predictions.store.models import ModelShelf


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedFile:
    """What was predicted."""

    model_version: str
    read: ReadEvents
    predicted: int
    """Rows with an answer; the others have no candidate, or are not usable."""
    sure: int
    """Of them, those from the model's threshold on."""
    seconds: float
    output: Path
    judgement: dict[str, Any] | None
    """How good it was, where the file says what the value was."""
    drift: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `predict --json` documents."""
        rows = len(self.read.events)
        document: dict[str, Any] = {
            "rows": rows + self.read.refused,
            "predicted": self.predicted,
            "sure": self.sure,
            "model_version": self.model_version,
            "rows_per_s": round(rows / max(self.seconds, 1e-9), 1),
            "output": str(self.output),
            "errors": self.read.refused,
            "first_errors": [{"row": error.row, "reason": error.reason} for error in self.read.errors],
            "drift": self.drift,
        }
        return document | (self.judgement or {})


def predict_file(
    shelf: ModelShelf,
    file: Path,
    output: Path,
    *,
    version: str | None = None,
    tick: Callable[[float, str], None] = lambda _share, _text: None,
) -> PredictedFile:
    """Predict each row of a file from what was known at its instant: the model's past and earlier rows of the file.

    Raises:
        NoModelError: no model serves yet, or there is none of this version.
        UntrustedModelError: it must not be loaded.
        InvalidEventsError: the file has no row that can be used.
    """
    tick(0.0, "loading the model")
    wanted = version or shelf.active()
    if wanted is None:
        msg = "no model serves yet: nightcrew model train --data FILE"
        raise NoModelError(msg)
    model = shelf.load(wanted)
    tick(0.05, "reading")
    read = read_events(file, teaching=False)
    began = time.perf_counter()
    ranker = model.ranker
    history, asked = with_shared_numbers(model.history, read.events, part_count=ranker.part_count)
    counter = Reference.from_json(model.manifest.reference).counter()
    ranked = rank(
        ranker,
        united(history, asked),
        asked,
        tick=lambda rows: tick(0.1 + 0.8 * rows / len(asked), "predicting"),
        look=counter.add,
    )
    probability = ranker.calibration.probability(ranked.score) * (ranked.value != UNKNOWN)
    seconds = time.perf_counter() - began
    tick(0.9, "writing")
    write_predictions(output, read, asked, ranked, probability, model_version=wanted, threshold=ranker.threshold)
    answered = ranked.value != UNKNOWN
    return PredictedFile(
        model_version=wanted,
        read=read,
        predicted=int(answered.sum()),
        sure=int((probability >= ranker.threshold).sum()),
        seconds=seconds,
        output=output,
        judgement=_judge(asked, ranked, probability, ranker.threshold),
        drift=counter.report(),
    )


def _judge(asked: Events, ranked: Ranked, probability: Any, threshold: float) -> dict[str, Any] | None:
    known = np.flatnonzero(asked.taught)
    if not len(known):
        return None
    right, said = ranked.value[known] == asked.value[known], probability[known]
    chosen = measures.selective(said, right, threshold)
    return {
        "judged_rows": len(known),
        "top1": round(float(right.mean()), 6),
        "log_loss": round(measures.log_loss(said, right), 6),
        "ece": round(measures.calibration_error(said, right), 6),
        "coverage": round(chosen.coverage, 6),
        "accuracy": None if chosen.accuracy is None else round(chosen.accuracy, 6),
        "accuracy_at_coverage": measures.at_coverages(said, right),
    }
