"""What is written down of a model, and signed: without it no byte of the model is read.

models/<version>/model.pkl               the classifier, for exchange (joblib)
models/<version>/model.skops             the same, for serving: read by an allow-list of types
models/<version>/model.history.parquet   the uses it was taught with: the past of its predictions
models/<version>/model.manifest.json     this
models/<version>/model.manifest.sig      HMAC-SHA256 of the manifest's bytes under the crew's key of models
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasks.errors import PermanentError
from tasks.predictions.ranking import Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA: Final = 1
PICKLE: Final = "model.pkl"
SERVED: Final = "model.skops"
HISTORY: Final = "model.history.parquet"
MANIFEST: Final = "model.manifest.json"
SIGNATURE: Final = "model.manifest.sig"
MOST_MANIFEST_BYTES: Final = 4 * 1024 * 1024
_VERSION_SIGNS: Final = 12


class UntrustedModelError(PermanentError):
    """A model is not to be loaded; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNote:
    """A file as it was when it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """What a model is."""

    version: str
    """The first signs of a hash over its files: the same data and seed give the same version."""
    created_at: str
    files: Mapping[str, FileNote]
    libraries: Mapping[str, str]
    """Python, scikit-learn, numpy, joblib, skops: as they were when it was taught."""
    features: Mapping[str, str]
    """Name and meaning of each column, in their order."""
    part_count: int
    calibration: Calibration
    threshold: float
    data_sha256: str
    seed: int
    metrics: Mapping[str, Any]
    golden_rows: Sequence[Sequence[float]]
    golden_predictions: Sequence[Sequence[float]]
    reference: Sequence[Mapping[str, Any]]
    """What its columns looked like, see `tasks.predictions.drift`."""
    previous: str | None = None

    def to_bytes(self) -> bytes:
        """Write it: always the same bytes for the same content."""
        document = {
            "schema": SCHEMA,
            "version": self.version,
            "created_at": self.created_at,
            "files": {name: {"sha256": one.sha256, "bytes": one.bytes} for name, one in self.files.items()},
            "libraries": dict(self.libraries),
            "features": [{"name": name, "meaning": meaning} for name, meaning in self.features.items()],
            "part_count": self.part_count,
            "calibration": self.calibration.to_json(),
            "threshold": self.threshold,
            "data_sha256": self.data_sha256,
            "seed": self.seed,
            "metrics": self.metrics,
            "golden": {"rows": self.golden_rows, "predictions": self.golden_predictions},
            "reference": self.reference,
            "previous": self.previous,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> ModelManifest:
        """Read it.

        Raises:
            UntrustedModelError: it is none.
        """
        try:
            document = json.loads(content)
            _check_schema(document["schema"])
            return cls(
                version=str(document["version"]),
                created_at=str(document["created_at"]),
                files={
                    name: FileNote(sha256=str(one["sha256"]), bytes=int(one["bytes"]))
                    for name, one in document["files"].items()
                },
                libraries={str(name): str(release) for name, release in document["libraries"].items()},
                features={str(one["name"]): str(one["meaning"]) for one in document["features"]},
                part_count=int(document["part_count"]),
                calibration=Calibration(
                    scores=[float(one) for one in document["calibration"]["scores"]],
                    shares=[float(one) for one in document["calibration"]["shares"]],
                ),
                threshold=float(document["threshold"]),
                data_sha256=str(document["data_sha256"]),
                seed=int(document["seed"]),
                metrics=dict(document["metrics"]),
                golden_rows=document["golden"]["rows"],
                golden_predictions=document["golden"]["predictions"],
                reference=document["reference"],
                previous=document["previous"],
            )
        except UntrustedModelError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            msg = f"its manifest cannot be read: {type(error).__name__}"
            raise UntrustedModelError(msg) from None


def _check_schema(schema: object) -> None:
    if schema != SCHEMA:
        msg = f"its manifest is of schema {schema!r}, not {SCHEMA}"
        raise UntrustedModelError(msg)


def version_of(files: Mapping[str, FileNote]) -> str:
    """Name a version after what it consists of.

    Without the served format: skops writes addresses in memory and the time of day into it, so it never is the same.
    """
    whole = hashlib.sha256()
    for name, one in sorted((name, one) for name, one in files.items() if name != SERVED):
        whole.update(f"{name} {one.sha256} {one.bytes}\n".encode())
    return whole.hexdigest()[:_VERSION_SIGNS]


def sign(content: bytes, key: bytes) -> bytes:
    """Vouch for a manifest."""
    return hmac.new(key, content, hashlib.sha256).hexdigest().encode()


def check_signature(content: bytes, signature: bytes, key: bytes) -> None:
    """Check who vouches for a manifest.

    Raises:
        UntrustedModelError: nobody who has the crew's key.
    """
    if not hmac.compare_digest(sign(content, key), signature.strip()):
        msg = (
            "its manifest is not signed by this crew: it was changed, or made elsewhere (`nightcrew model trust FILE`)"
        )
        raise UntrustedModelError(msg)


def check_libraries(manifest: ModelManifest, present: Mapping[str, str]) -> None:
    """Check that a model was taught with the libraries that are here; patch releases may differ.

    scikit-learn itself does not support other releases, in whatever format
    (https://scikit-learn.org/stable/model_persistence.html).

    Raises:
        UntrustedModelError: it was not.
    """
    for name, release in manifest.libraries.items():
        here = present.get(name, "absent")
        if here.split(".")[:2] != release.split(".")[:2]:
            msg = f"it was made with {name} {release}, and here is {here}: train it again"
            raise UntrustedModelError(msg)


def check_features(manifest: ModelManifest, present: Sequence[str]) -> None:
    """Check that what a model was taught is what it will be told.

    Raises:
        UntrustedModelError: the features differ.
    """
    if list(manifest.features) != list(present):
        different = sorted(set(manifest.features) ^ set(present)) or ["their order"]
        msg = f"it was taught with other features ({', '.join(different[:5])}): train it again"
        raise UntrustedModelError(msg)
