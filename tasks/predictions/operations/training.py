"""From a file of uses to a model that serves, or to the reason why it does not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import joblib
import skops.io

from tasks.predictions.features import FEATURES
from tasks.predictions.features.feature import PartFeature
from tasks.predictions.learning import learn
from tasks.predictions.manifest import HISTORY, PICKLE, SERVED, ModelManifest, version_of
from tasks.predictions.reading import read_events
from tasks.predictions.store.history import write_history
from tasks.predictions.store.models import libraries, note_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from tasks.predictions.learning import Learned
    from tasks.predictions.reading import ReadEvents
    from tasks.predictions.store.models import ModelShelf

SEED: Final = 20_260_101
_CHUNK_BYTES: Final = 1024 * 1024
_PICKLE_PROTOCOL: Final = 5
_COMPRESSION: Final = ("zlib", 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a training."""

    manifest: ModelManifest
    read: ReadEvents
    learned: Learned
    promoted: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `model train --json` documents."""
        judged = self.learned.judgement
        return {
            "model_version": self.manifest.version,
            "promoted": self.promoted,
            "reason": self.reason,
            "rows": len(self.read.events),
            "refused_rows": self.read.refused,
            "errors": [{"row": error.row, "reason": error.reason} for error in self.read.errors],
            "top1": round(judged.top1.value, 6),
            "log_loss": round(judged.log_loss, 6),
            "ece": round(judged.ece, 6),
            "coverage": round(judged.selective.coverage, 6),
            "accuracy": None if judged.selective.accuracy is None else round(judged.selective.accuracy, 6),
            "threshold": round(judged.selective.threshold, 6),
            "baselines": judged.rules,
            "gain": judged.gain.to_json(),
            "data_sha256": self.manifest.data_sha256,
            "seed": self.manifest.seed,
            "held_out": judged.to_json(),
        }


def train(
    shelf: ModelShelf,
    file: Path,
    *,
    now: datetime,
    seed: int = SEED,
    promote: bool = True,
    tick: Callable[[float, str], None] = lambda _share, _text: None,
) -> Trained:
    """Learn from a file, keep the model, and let it serve if it beats the best simple rule.

    Raises:
        InvalidEventsError: the file holds no uses.
        NotEnoughEventsError: it holds too few.
        UntrustedModelError: what was just made does not load: it is kept, and does not serve.
    """
    tick(0.0, "reading")
    read = read_events(file, teaching=True)
    learned = learn(read.events, seed=seed, tick=lambda share, text: tick(0.05 + 0.85 * share, text))
    tick(0.92, "keeping")
    manifest = _keep(shelf, read, learned, data_sha256=_sha256(file), seed=seed, now=now)
    promoted, reason = False, learned.judgement.reason
    if not learned.judgement.is_better:
        reason = f"not promoted: {reason}"
    elif promote:
        shelf.activate(manifest.version)
        promoted, reason = True, f"promoted: {reason}"
    return Trained(manifest=manifest, read=read, learned=learned, promoted=promoted, reason=reason)


def _keep(
    shelf: ModelShelf, read: ReadEvents, learned: Learned, *, data_sha256: str, seed: int, now: datetime
) -> ModelManifest:
    with shelf.folder() as folder:
        classifier = learned.ranker.classifier
        joblib.dump(classifier, folder / PICKLE, compress=_COMPRESSION, protocol=_PICKLE_PROTOCOL)
        (folder / SERVED).write_bytes(skops.io.dumps(classifier))
        write_history(folder / HISTORY, read.events)
        files = {name: note_of(folder / name) for name in (PICKLE, SERVED, HISTORY)}
        version = version_of(files)
        manifest = ModelManifest(
            version=version,
            created_at=now.isoformat(),
            files=files,
            libraries=libraries(),
            features=_features(learned.ranker.part_count),
            part_count=learned.ranker.part_count,
            calibration=learned.ranker.calibration,
            threshold=learned.ranker.threshold,
            data_sha256=data_sha256,
            seed=seed,
            metrics=learned.judgement.to_json(),
            golden_rows=learned.golden_rows.astype(float).tolist(),
            golden_predictions=learned.golden_predictions.tolist(),
            reference=learned.reference.to_json(),
            previous=_previous(shelf, version),
        )
        return shelf.add(folder, manifest)


def _previous(shelf: ModelShelf, version: str) -> str | None:
    active = shelf.active()
    if active != version:
        return active
    return shelf.manifest(version).previous  # the same model once more: what served before it stays the same


def _features(part_count: int) -> dict[str, str]:
    meanings = {}
    for feature in FEATURES:
        for place, name in enumerate(feature.columns(part_count)):
            part = f" (part {place + 1})" if isinstance(feature, PartFeature) else ""
            meanings[name] = feature.meaning + part
    return meanings


def _sha256(file: Path) -> str:
    whole = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()
