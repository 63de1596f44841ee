"""Has a model predict in a process of its own, from copies that nobody else can exchange meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.predictions.manifest import UntrustedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CHILD: Final = "tasks.predictions.store.model_child"
PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the process said."""

    predictions: Mapping[str, Any]
    columns: int


def predict_in_child(
    *, pickle: bytes, served: bytes, trusted: Sequence[str], rows: Any, patience_s: float = PATIENCE_S
) -> Answer:
    """Load both formats in a process of its own and predict some rows.

    Raises:
        UntrustedModelError: it ended by a signal, took too long, or said that something is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="nightcrew-model-") as folder:
        places = {"pickle": Path(folder) / "model.pkl", "served": Path(folder) / "model.skops"}
        places["pickle"].write_bytes(pickle)
        places["served"].write_bytes(served)
        question = {name: str(path) for name, path in places.items()} | {"trusted": list(trusted), "rows": rows}
        return _answer(_ask(json.dumps(question), folder, patience_s))


def _ask(question: str, folder: str, patience_s: float) -> subprocess.CompletedProcess[str]:
    # Nothing of the environment of a worker, which may hold secrets.
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        return subprocess.run(
            [sys.executable, "-I", "-B", "-m", _CHILD],
            input=question,
            capture_output=True,
            cwd=folder,
            env=environment,
            text=True,
            timeout=patience_s,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        msg = f"it had not loaded after {patience_s:g} s"
        raise UntrustedModelError(msg) from None


def _answer(done: subprocess.CompletedProcess[str]) -> Answer:
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        msg = f"the process that was to load it ended with {ended}"
        raise UntrustedModelError(msg) from None
    if "error" in answer:
        msg = f"it does not load: {answer['error']}"
        raise UntrustedModelError(msg)
    return Answer(predictions={name: answer[name] for name in ("pickle", "served")}, columns=answer["columns"])
