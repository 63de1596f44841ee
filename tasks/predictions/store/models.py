"""The versions of the model in a directory, which of them is active, and how one comes to be loaded.

Order of checks, each before what the next one needs: signature of the manifest, libraries and features, size and
SHA-256 of every file, types in the served format, a process of its own that loads both formats and predicts the golden
rows. Only then the worker loads the served format. It never reads the pickle.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import platform
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import skops.io

from tasks.errors import PermanentError
from tasks.predictions import manifest as notes
from tasks.predictions.features import column_names
from tasks.predictions.manifest import FileNote, ModelManifest, UntrustedModelError
from tasks.predictions.ranking import Ranker
from tasks.predictions.store.history import read_history
from tasks.predictions.store.trial import predict_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.predictions.events import Events
    from tasks.predictions.ranking import Classifier

TRUSTED_TYPES: Final = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
"""Types beyond those that skops knows as harmless. Written down here, and never taken from a file."""
_ACTIVE: Final = "active"
_LOCK: Final = ".lock"
_FILES: Final = (notes.PICKLE, notes.SERVED, notes.HISTORY)
_PUBLISHED: Final = (*_FILES, notes.MANIFEST, notes.SIGNATURE)
_TOLERANCE: Final = 1e-9
_KEY_BYTES: Final = 32
_MOST_BYTES: Final = 4 * 1024**3


class NoModelError(PermanentError):
    """There is no such model."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that was checked, with the past that belongs to it."""

    manifest: ModelManifest
    classifier: Classifier
    history_bytes: bytes

    @property
    def ranker(self) -> Ranker:
        """Give what it takes to predict."""
        return Ranker(
            classifier=self.classifier,
            part_count=self.manifest.part_count,
            calibration=self.manifest.calibration,
            threshold=self.manifest.threshold,
        )

    @cached_property
    def history(self) -> Events:
        """Give the uses that it was taught with."""
        return read_history(self.history_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShelf:
    """Models of one crew."""

    directory: Path
    """Where the versions are, each in a directory of its own."""
    key_file: Path
    """The key that manifests are signed with; made when the first model is."""
    published: Path | None = None
    """Where the active one lies as well, under the names that backups take and people look for."""

    def add(self, folder: Path, manifest: ModelManifest) -> ModelManifest:
        """Sign the files in a folder beside the versions, and put them in their place; one version twice is one."""
        content = manifest.to_bytes()
        (folder / notes.MANIFEST).write_bytes(content)
        (folder / notes.SIGNATURE).write_bytes(notes.sign(content, self._key()))
        for name in _PUBLISHED:
            _sync(folder / name)
        with self._locked():
            place = self.directory / manifest.version
            if place.exists():
                # Newer metrics or a newer signature of the same bytes: whole or not at all.
                shutil.rmtree(place.with_suffix(".old"), ignore_errors=True)
                place.rename(place.with_suffix(".old"))
            folder.rename(place)
            shutil.rmtree(place.with_suffix(".old"), ignore_errors=True)
            _sync(self.directory)
        return manifest

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Give a folder for a new version during the block; what is left there at its end is removed."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = self.directory / f".new-{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def versions(self) -> list[str]:
        """Name the versions that there are, the oldest first."""
        if not self.directory.is_dir():
            return []
        found = [path for path in self.directory.iterdir() if (path / notes.MANIFEST).is_file() and path.name[0] != "."]
        return [path.name for path in sorted(found, key=lambda path: (path / notes.MANIFEST).stat().st_mtime_ns)]

    def active(self) -> str | None:
        """Name the version that serves."""
        try:
            return (self.directory / _ACTIVE).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def manifest(self, version: str) -> ModelManifest:
        """Give a version's manifest, its signature checked.

        Raises:
            NoModelError: there is none.
            UntrustedModelError: nobody vouches for it.
        """
        return self._signed(self._place(version))

    def load(self, version: str, *, golden: bool = True) -> LoadedModel:
        """Check a version and load it; `golden=False` spares the process of its own where that was done before.

        Raises:
            NoModelError: there is none.
            UntrustedModelError: it is not to be loaded; nothing of it ran in this process.
        """
        place = self._place(version)
        manifest = self._signed(place)
        notes.check_libraries(manifest, libraries())
        notes.check_features(manifest, column_names(manifest.part_count))
        contents = {name: _read(place / name, note) for name, note in manifest.files.items()}
        if set(contents) != set(_FILES):
            msg = f"it should consist of {', '.join(_FILES)}, not {', '.join(sorted(contents))}"
            raise UntrustedModelError(msg)
        _check_types(contents[notes.SERVED])
        if golden:
            _check_golden(contents, manifest)
        classifier = skops.io.loads(contents[notes.SERVED], trusted=list(TRUSTED_TYPES))
        return LoadedModel(manifest=manifest, classifier=classifier, history_bytes=contents[notes.HISTORY])

    def activate(self, version: str) -> ModelManifest:
        """Check a version and let it serve from now on.

        Raises:
            NoModelError: there is none.
            UntrustedModelError: it is not to be loaded; the one before serves on.
        """
        manifest = self.load(version).manifest
        with self._locked():
            _replace(self.directory / _ACTIVE, f"{version}\n".encode())
            self._publish(version)
        return manifest

    def _publish(self, version: str) -> None:
        if self.published is None:
            return
        # Signature and manifest last: until then they name files that are not there, and nobody takes these for whole.
        for name in _PUBLISHED:
            _replace(self.published / name, (self.directory / version / name).read_bytes())

    def _place(self, version: str) -> Path:
        place = self.directory / version
        if not version.isalnum() or not (place / notes.MANIFEST).is_file():
            msg = f"there is no model {version}"
            raise NoModelError(msg)
        return place

    def _signed(self, place: Path) -> ModelManifest:
        try:
            content = _bounded(place / notes.MANIFEST, notes.MOST_MANIFEST_BYTES)
            signature = _bounded(place / notes.SIGNATURE, _KEY_BYTES * 4)
        except OSError as error:
            msg = f"nobody vouches for it: {Path(str(error.filename)).name} cannot be read"
            raise UntrustedModelError(msg) from error
        notes.check_signature(content, signature, self._key())
        manifest = ModelManifest.from_bytes(content)
        if manifest.version != place.name or manifest.version != notes.version_of(manifest.files):
            msg = f"its manifest is of version {manifest.version}"
            raise UntrustedModelError(msg)
        return manifest

    def _key(self) -> bytes:
        """Read the key, or make it: whoever can write beside the models may vouch for one."""
        try:
            key = self.key_file.read_bytes()
        except FileNotFoundError:
            self.key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self.key_file.with_name(f".{self.key_file.name}.{secrets.token_hex(4)}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
                file.write(secrets.token_bytes(_KEY_BYTES))
            try:
                os.link(fresh, self.key_file)  # the first one wins
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            key = self.key_file.read_bytes()
        if len(key) < _KEY_BYTES:
            msg = f"{self.key_file.name} is no key of models: it has {len(key)} bytes"
            raise PermanentError(msg)
        return key

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def libraries() -> dict[str, str]:
    """Give the releases that a model depends on, as they are here."""
    names = ("scikit-learn", "numpy", "joblib", "skops")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def note_of(file: Path) -> FileNote:
    """Note a file as it is."""
    content = file.read_bytes()
    return FileNote(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _read(file: Path, note: FileNote) -> bytes:
    """Read a file once: what is hashed is what is used."""
    try:
        content = _bounded(file, min(note.bytes, _MOST_BYTES))
    except OSError as error:
        msg = f"{file.name} cannot be read: {error.strerror}"
        raise UntrustedModelError(msg) from error
    if len(content) != note.bytes or hashlib.sha256(content).hexdigest() != note.sha256:
        msg = f"{file.name} is not what its manifest says: it is damaged, or was exchanged"
        raise UntrustedModelError(msg)
    return content


def _bounded(file: Path, most: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(most + 1)


def _check_types(content: bytes) -> None:
    try:
        unknown = set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES)
    except Exception as error:  # a file that is none of skops raises whatever its parts raise
        msg = f"{notes.SERVED} cannot be read: {type(error).__name__}"
        raise UntrustedModelError(msg) from error
    if unknown:
        msg = f"{notes.SERVED} holds what is not to be loaded: {', '.join(sorted(unknown)[:5])}"
        raise UntrustedModelError(msg)


def _check_golden(contents: Mapping[str, bytes], manifest: ModelManifest) -> None:
    answer = predict_in_child(
        pickle=contents[notes.PICKLE],
        served=contents[notes.SERVED],
        trusted=TRUSTED_TYPES,
        rows=manifest.golden_rows,
    )
    if answer.columns != len(manifest.features):
        msg = f"it takes {answer.columns} features, and its manifest names {len(manifest.features)}"
        raise UntrustedModelError(msg)
    for name, predictions in answer.predictions.items():
        if not _close(predictions, manifest.golden_predictions):
            msg = f"it does not predict what it was written down to predict ({name})"
            raise UntrustedModelError(msg)


def _close(predictions: Any, golden: Any) -> bool:
    try:
        return bool(np.allclose(np.asarray(predictions), np.asarray(golden), rtol=0, atol=_TOLERANCE))
    except ValueError:
        return False


def _replace(file: Path, content: bytes) -> None:
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with fresh.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
