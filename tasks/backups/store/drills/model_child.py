"""Loads a model in a process of its own, and says what it predicts: `python -I -m` and the name of this module.

Whoever starts it has compared the file's SHA-256 with a manifest: reading a model runs what is in it. It is run all the
same as if something were wrong with it: nothing is written, memory and time are bounded, the environment is empty. On
standard input comes `{"file", "rows"}`, to standard output goes `{"predictions"}` or `{"error"}`.
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
    """Answer one question."""
    question = json.load(sys.stdin)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a model prints is no answer
    _shut_in()
    try:
        answer = {"predictions": _predict(question["file"], question["rows"])}
    except Exception as error:  # noqa: BLE001  whatever a model does when it is loaded is told
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _shut_in() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _predict(file: str, rows: Any) -> Any:
    # Of another release of scikit-learn a model only warns, and may predict otherwise.
    warnings.filterwarnings("error", message=".*unpickle estimator.*")
    # By name: no module of this project imports what reads pickles.
    model = importlib.import_module("joblib").load(file)
    predict = getattr(model, "predict_proba", None) or model.predict
    return importlib.import_module("numpy").asarray(predict(rows)).tolist()


if __name__ == "__main__":
    main()
