"""Messages as the producer library writes them, and ways to spoil one."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

QUEUE = "nightcrew.ledger"


def encoded(body: object) -> str:
    """Give a body as it travels."""
    return base64.b64encode(json.dumps(body).encode()).decode()


def envelope(
    *,
    task: str = "ledger.canary",
    payload: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    **parts: Any,
) -> dict[str, Any]:
    """Give a message that a worker takes; the arguments replace parts of it."""
    job_id = str(uuid.uuid4())
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return {
        "body": encoded([[], payload or {}, embedded]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": job_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": job_id,
            "parent_id": None,
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": "gen1@host",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            "nightcrew_schema": 1,
            **(headers or {}),
        },
        "properties": {
            "correlation_id": job_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            **(properties or {}),
        },
        **parts,
    }


def item(**parts: Any) -> bytes:
    """Give a message as it stands in its list."""
    return json.dumps(envelope(**parts)).encode()


BAD_HEADERS: dict[str, list[Any]] = {
    "task": [None, 5, "", [], "\ud800", "a\nb", "x" * 300],
    "id": [None, 5, "", {}, "\x00", "x" * 300],
    "eta": [5, "", "soon", "2999-01-01T00:00:00+00:00", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", {}],
    "expires": [5, "never", "9999-12-31T23:59:59-14:00", "2026-13-01T00:00:00Z", ["x"], True],
    "timelimit": [5, [1, 2], [None, -1], "x", {"a": 1}],
    "retries": ["1", -1, 1.5, None, [], True],
    "shadow": [5, ["x"], {}],
    "root_id": [5, ["x"]],
    "group": [5, {}],
    "argsrepr": [5, ["x"]],
    "origin": [5],
    "ignore_result": ["yes", 5],
    "stamps": [[], "x", {"a": 1}],
    "stamped_headers": ["x", {}, [{"a": 1}], ["x"]],
    "compression": ["zlib", 5],
    "headers": [5, "x"],
    "delivery_info": [5],
    "args": [[1]],
    "get": [5],
    "_children": [5],
    "__class__": [5],
}
"""Values that a header must not have; some of the names must not be there at all."""

BAD_PARTS: dict[str, list[Any]] = {
    "body": [None, 5, {}, "%%%", "bm8ganNvbg==", encoded({}), encoded([1, 2, 3]), encoded([[], []]), "é"],
    "content-type": [None, "application/x-python-serialize", "application/x-yaml", "text/plain", 5, "application/data"],
    "content-encoding": [None, "binary", "utf-16", "klingon", 5],
    "headers": [None, [], "x", 5, {}],
    "properties": [None, [], "x", 5, {}],
}
"""Values that a part of the envelope must not have."""

BAD_PROPERTIES: dict[str, list[Any]] = {
    "delivery_info": [
        None,
        [],
        {},
        {"exchange": "", "routing_key": "elsewhere"},
        {"exchange": 5, "routing_key": QUEUE},
    ],
    "delivery_tag": [None, 5, "", [], {}],
    "priority": ["high", -1, 10, 1e400, [], True],
    "body_encoding": [None, "utf-8", "rot13", 5, []],
    "correlation_id": [5, []],
    "reply_to": [5, {}],
}
"""Values that a property must not have."""
