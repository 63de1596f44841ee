"""Loads a model in a process of its own, in both of its formats, and says what each predicts.

Whoever starts it has checked signature and SHA-256 of both files: reading a pickle runs what is in it. It is run all
the same as if something were wrong: nothing can be written, memory and time are bounded, the environment is empty. One
bit that had changed before the file was signed made the process end by a signal in 6 of 60 cases, and predict wrongly
in 6 others: that must happen here, and not in a worker.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import warnings
from typing import Any, Final

MEMORY_BYTES: Final = 4 * 1024**3
CPU_S: Final = 120


def main() -> None:
    """Answer one question: `{"pickle", "served", "trusted", "rows"}`, paths and rows of features."""
    question = json.load(sys.stdin)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a model prints is no answer
    _shut_in()
    try:
        answer = _predictions(question)
    except Exception as error:  # noqa: BLE001  whatever a model does when it is loaded is told
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _shut_in() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _predictions(question: Any) -> dict[str, Any]:
    # Of another release of scikit-learn a model only warns, and may predict otherwise.
    warnings.filterwarnings("error", message=".*unpickle estimator.*")
    numpy: Any = importlib.import_module("numpy")
    rows = numpy.asarray(question["rows"], dtype=numpy.float32)
    skops: Any = importlib.import_module("skops.io")
    # By name: no module of this project imports what reads pickles.
    models = {
        "pickle": importlib.import_module("joblib").load(question["pickle"]),
        "served": skops.load(question["served"], trusted=question["trusted"]),
    }
    answers: dict[str, Any] = {name: model.predict_proba(rows).tolist() for name, model in models.items()}
    return {**answers, "columns": int(models["served"].n_features_in_)}


if __name__ == "__main__":
    main()
