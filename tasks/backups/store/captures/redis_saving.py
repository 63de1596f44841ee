"""Having a Redis server dump itself (BGSAVE), and knowing that it did.

What the server offers to tell by is thin: the second of the last success (LASTSAVE), whether the last attempt was one
(a save that was called off changes neither), and how many were begun. So a save is asked for only when none runs. Then
a change of that second is the success of a save that began after the question, and within the same second a new file
is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

_LOOK_S: Final = 0.02
_TAKEN: Final = ("in progress", "another child process", "scheduled")
"""What servers say to BGSAVE while somebody else's runs."""


class SaveFailedError(TransientError):
    """The server could not dump itself; only its own log says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What INFO says of the saves of a server."""

    is_saving: bool
    last_save: int
    """Second of the last success."""
    was_ok: bool
    saves: int
    """Begun since the server started."""
    keys: int
    """Of `all_keys`, written by the save that runs."""
    all_keys: int


def save_in_background(
    client: Redis, *, name: str, patience_s: float, is_written: Callable[[], bool], tell: Callable[[float], None]
) -> None:
    """Have the server write its dump; when this returns, a save that began after the call has ended well.

    A save that runs already is older than the call, and is waited for. Behind a rewrite of the append-only file the
    server queues the save by itself (SCHEDULE). `is_written` says whether a new dump lies there. `tell` hears the share
    of the keys that are written, and is a checkpoint: the server goes on alone when it raises. It takes a server of
    version 7.0 or newer.

    Raises:
        SaveFailedError: the save failed, or was called off.
        TransientError: the turn did not come within `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while (before := _look(client)).is_saving or not _ask_for_save(client, name):
        if time.monotonic() > deadline:
            msg = f"the {name} is still busy with another background save: it is asked again later"
            raise TransientError(msg)
        tell(0.0)
        time.sleep(_LOOK_S)
    _wait_for_end(client, name, before, deadline, tell, is_written)


def _ask_for_save(client: Redis, name: str) -> bool:
    """Tell whether the save has begun or is queued; False where somebody else's came between."""
    try:
        client.bgsave(schedule=True)
    except ResponseError as error:
        if any(phrase in str(error).lower() for phrase in _TAKEN):
            return False
        if str(error).strip() not in {"", "ERR"}:
            raise
        msg = (
            f"the {name} could not fork for its background save: it needs free memory, or "
            "`sudo sysctl vm.overcommit_memory=1`"
        )
        raise SaveFailedError(msg) from error
    return True


def _wait_for_end(
    client: Redis,
    name: str,
    before: _Look,
    deadline: float,
    tell: Callable[[float], None],
    is_written: Callable[[], bool],
) -> None:
    while True:
        now = _look(client)
        has_begun = now.is_saving or now.saves > before.saves
        has_ended = has_begun and not now.is_saving
        if now.last_save != before.last_save or (has_ended and now.was_ok and is_written()):
            return
        if has_ended:
            what = "was called off (by FLUSHALL, or by somebody)" if now.was_ok else "failed"
            msg = f"the background save of the {name} {what}"
            raise SaveFailedError(msg)
        if not has_begun and time.monotonic() > deadline:
            msg = f"the {name} did not come to its background save: it is busy with its append-only file"
            raise TransientError(msg)
        tell(now.keys / now.all_keys if now.all_keys else 0.0)
        time.sleep(_LOOK_S)


def _look(client: Redis) -> _Look:
    told: dict[str, Any] = client.info()
    return _Look(
        is_saving=bool(told["rdb_bgsave_in_progress"]),
        last_save=int(told["rdb_last_save_time"]),
        was_ok=told["rdb_last_bgsave_status"] == "ok",
        saves=int(told["rdb_saves"]),
        keys=int(told.get("current_save_keys_processed", 0)),
        all_keys=int(told.get("current_save_keys_total", 0)),
    )
