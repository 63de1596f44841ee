"""The real traces in `data/traces`, and a cache that is played through request by request."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import zstandard

from tasks.ttl.traces import Operation, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.ttl.replay import Mode

TRACES: Final = Path(__file__).parents[2] / "data" / "traces"


def trace_of(at_ms: Sequence[int], keys: Sequence[int], operations: Sequence[int] | None = None) -> Trace:
    """Make a trace of one family."""
    count = len(at_ms)
    return Trace(
        at_ms=np.asarray(at_ms, dtype=np.int64),
        key=np.asarray(keys, dtype=np.int64),
        operation=np.zeros(count, dtype=np.int8) if operations is None else np.asarray(operations, dtype=np.int8),
        family=np.zeros(count, dtype=np.int32),
        families=("all",),
    )


def weblog() -> Trace:
    """Give a day of a shop's catalogue with robots: 116,215 requests for 34,036 keys."""
    pairs = np.frombuffer(gzip.decompress((TRACES / "weblog-424.slt.gz").read_bytes()), dtype=">i4").reshape(-1, 2)
    return trace_of((pairs[:, 0].astype(np.int64) * 1_000).tolist(), pairs[:, 1].tolist())


def mooncake() -> Trace:
    """Give an hour of blocks that a language model was asked for: 288,500 requests for 182,790 keys."""
    packed = (TRACES / "mooncake_conversation_trace.jsonl.zst").read_bytes()
    text = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    requests = [json.loads(line) for line in text.splitlines()]
    at_ms = [request["timestamp"] for request in requests for _ in request["hash_ids"]]
    return trace_of(at_ms, [block for request in requests for block in request["hash_ids"]])


def played(trace: Trace, ttls_ms: Sequence[int], mode: Mode) -> list[int]:
    """Count the hits of each time to live by doing what a cache does, one request after the other."""
    return [_played(trace, ttl_ms, mode) for ttl_ms in ttls_ms]


def _played(trace: Trace, ttl_ms: int, mode: Mode) -> int:
    expires: defaultdict[int, int] = defaultdict(lambda: -1)
    hits = 0
    for at, key, operation in zip(trace.at_ms.tolist(), trace.key.tolist(), trace.operation.tolist(), strict=True):
        if operation == Operation.DELETE:
            expires.pop(key, None)
        elif operation == Operation.SET:
            expires[key] = at + ttl_ms
        else:
            is_hit = at <= expires[key]
            hits += is_hit
            if mode == "sliding" or not is_hit:
                expires[key] = at + ttl_ms
    return hits
