"""Uses in a Parquet file: the past that belongs to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tasks.predictions.events import UNKNOWN, Events, Vocabulary
from tasks.predictions.manifest import UntrustedModelError
from tasks.predictions.reading import split_contexts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_history(file: Path, events: Events) -> None:
    """Write uses, in their order."""
    table = pa.table(
        {
            "at_us": events.at_us,
            "known_at_us": events.known_at_us,
            "entity": _texts(events.entity, events.entities),
            "context": _texts(events.context, events.contexts),
            "value": _texts(events.value, events.values),
            "accepted": events.accepted,
        }
    )
    pyarrow.parquet.write_table(table, file, compression="zstd", store_schema=True)


def read_history(content: bytes) -> Events:
    """Read them.

    Raises:
        UntrustedModelError: it is no such file.
    """
    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(content)).combine_chunks()
        entity, entities = _numbers(table["entity"])
        context, contexts = _numbers(table["context"])
        value, values = _numbers(table["value"])
        parts, part_texts = split_contexts(contexts, context)
        return Events(
            at_us=table["at_us"].to_numpy().astype(np.int64),
            known_at_us=table["known_at_us"].to_numpy().astype(np.int64),
            entity=entity,
            value=value,
            accepted=table["accepted"].to_numpy().astype(np.int8),
            context=context,
            parts=parts,
            entities=entities,
            values=values,
            contexts=contexts,
            part_texts=part_texts,
        )
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        msg = f"its history cannot be read: {error}"
        raise UntrustedModelError(msg) from error


def _texts(numbers: NDArray[np.int64], vocabulary: Vocabulary) -> pa.Array:
    known = numbers != UNKNOWN
    indices = pa.array(np.where(known, numbers, 0).astype(np.int32), mask=~known)
    return pa.DictionaryArray.from_arrays(indices, pa.array(vocabulary.texts, type=pa.string()))


def _numbers(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], Vocabulary]:
    encoded = column.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # combine_chunks of nothing gives no array
        encoded = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.string()))
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    numbers = encoded.indices.fill_null(UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers, Vocabulary.of([str(text) for text in encoded.dictionary.to_pylist()])
