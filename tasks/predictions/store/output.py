"""Predictions in a file: CSV, JSON Lines or Parquet, by its name. It is there whole, or as it was before."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tasks.errors import PermanentError
from tasks.predictions.events import UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tasks.predictions.events import Events, Vocabulary
    from tasks.predictions.ranking import Ranked
    from tasks.predictions.reading import ReadEvents

FORMS: Final = (".csv", ".jsonl", ".parquet")
_ROWS_AT_ONCE: Final = 50_000
_NOTHING: Final = "nothing was ever used before"


class OutputError(PermanentError):
    """Predictions cannot be written there."""


def write_predictions(
    file: Path,
    read: ReadEvents,
    asked: Events,
    ranked: Ranked,
    probability: NDArray[np.float64],
    *,
    model_version: str,
    threshold: float,
) -> None:
    """Write a row for each of the file that was asked about, in its order; rows that could not be used say why.

    Raises:
        OutputError: the name ends otherwise, or the file cannot be written.
    """
    if file.suffix not in FORMS:
        msg = f"{file.name}: predictions are written as {', '.join(FORMS)}"
        raise OutputError(msg)
    table = pa.concat_tables(
        [
            _answers(read.rows, asked, ranked, probability, threshold),
            _refusals(read),
        ]
    ).sort_by("row")
    table = table.append_column("model_version", pa.array([model_version] * len(table), pa.string()))
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(table, beside, file.suffix)
        descriptor = os.open(beside, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        beside.replace(file)
    except OSError as error:
        msg = f"{file} cannot be written: {error.strerror}"
        raise OutputError(msg) from error
    finally:
        beside.unlink(missing_ok=True)


def _answers(
    rows: NDArray[np.int64], asked: Events, ranked: Ranked, probability: NDArray[np.float64], threshold: float
) -> pa.Table:
    answered = ranked.value != UNKNOWN
    return pa.table(
        {
            "row": rows,
            "entity": _texts(asked.entity, asked.entities),
            "context": _texts(asked.context, asked.contexts),
            "value": _texts(ranked.value, asked.values),
            "probability": pa.array(probability, mask=~answered),
            "confidence": pa.array(ranked.margin, mask=~answered),
            "sure": pa.array(probability >= threshold),
            "status": pa.array(["ok" if one else "unknown" for one in answered.tolist()], pa.string()),
            "reason": pa.array([None if one else _NOTHING for one in answered.tolist()], pa.string()),
        }
    )


def _refusals(read: ReadEvents) -> pa.Table:
    count = read.refused
    return pa.table(
        {
            "row": pa.array(read.refused_rows, pa.int64()),
            **{name: pa.nulls(count, pa.string()) for name in ("entity", "context", "value")},
            **{name: pa.nulls(count, pa.float64()) for name in ("probability", "confidence")},
            "sure": pa.array([False] * count, pa.bool_()),
            "status": pa.array(["error"] * count, pa.string()),
            "reason": pa.array([read.reasons[number] for number in read.refused_for.tolist()], pa.string()),
        }
    )


def _texts(numbers: NDArray[np.int64], vocabulary: Vocabulary) -> pa.Array:
    known = numbers != UNKNOWN
    indices = pa.array(np.where(known, numbers, 0), mask=~known)
    return pa.DictionaryArray.from_arrays(indices, pa.array(vocabulary.texts, type=pa.string())).cast(pa.string())


def _write(table: pa.Table, file: Path, form: str) -> None:
    if form == ".parquet":
        pyarrow.parquet.write_table(table, file, compression="zstd")
    elif form == ".csv":
        pyarrow.csv.write_csv(table, file)
    else:
        with file.open("w", encoding="utf-8") as lines:
            for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
                lines.writelines(_line(one) for one in batch.to_pylist())


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"
