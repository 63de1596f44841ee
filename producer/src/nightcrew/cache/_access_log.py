"""The access log in Redis, from the side that writes it; `wire.py` and `access.lua` describe its format."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

from nightcrew import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis import Redis

    from nightcrew.signing import Signer

PRODUCER_TTL_S: Final = 7 * 24 * 3600
"""How long Redis remembers a silent process's last entry. The database remembers it as well, and longer."""

KEEP_MS: Final = 25 * 3600 * 1000
"""What the log keeps until the crew has said otherwise: a day, and an hour to study it in."""

CAP_BYTES: Final = 64 * 1024 * 1024

HOT_KEYS: Final = 256
"""Keys of each family that are followed exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One entry, frozen: it is sent in this form until the log has it."""

    producer: str
    seq: int
    body: bytes
    told: Mapping[str, int]
    """By family: how many operations the body tells of."""
    asked: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    """By family: hashes (hex) of keys and how often they were asked for, for the ranking of all processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the log says to an entry."""

    verdict: Literal["ok", "duplicate", "salt"]
    """Written · written before · refused, because its hashes are of another salt."""
    salt: str
    """The one that hashes are made with."""
    hot: Mapping[str, Sequence[str]]
    """By family: hashes of the keys that all processes ask for most, hottest first."""


class AccessLog:
    """Appends entries; each is one script call, so it arrives whole or not at all, and never twice."""

    def __init__(self, redis: Redis, *, signer: Signer | None = None) -> None:
        self._redis = redis
        self._signer = signer

    def ask(self, salt: str, families: Sequence[str] = ()) -> Answer:
        """Begin the log with this salt if there is none, and hear which salt it has.

        Raises:
            redis.exceptions.RedisError, OSError: it could not be asked.
        """
        nothing = Shipment(producer="", seq=0, body=b"", told=dict.fromkeys(families, 0))
        return self._call(nothing, salt, HOT_KEYS)

    def append(self, shipment: Shipment, salt: str, *, hot_keys: int = HOT_KEYS) -> Answer:
        """Append an entry whose hashes are made with this salt, unless the log has it already.

        So many hot keys of each family come back.

        Raises:
            redis.exceptions.RedisError, OSError: it may or may not have arrived; appending the very same again is safe.
        """
        return self._call(shipment, salt, hot_keys)

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def _call(self, shipment: Shipment, salt: str, hot_keys: int) -> Answer:
        from redis.exceptions import NoScriptError

        families = list(shipment.told)
        keys = [wire.ACCESS_META, wire.ACCESS_TOTALS, wire.ACCESS_LOG, wire.access_producer(shipment.producer)]
        keys += (wire.access_hot(family) for family in families)
        args: list[Any] = [shipment.seq, PRODUCER_TTL_S, uuid.uuid4().hex, salt, shipment.producer, shipment.body]
        args += (self._signature(shipment), KEEP_MS, CAP_BYTES, hot_keys)
        for family in families:
            asked = shipment.asked.get(family, ())
            args += (family, shipment.told[family], len(asked))
            args += (text for one, many in asked for text in (many, one))
        script, digest = _script()
        try:
            reply: Any = self._redis.evalsha(digest, len(keys), *keys, *args)
        except NoScriptError:  # Redis was restarted: nothing has run
            reply = self._redis.eval(script, len(keys), *keys, *args)
        verdict, its_salt, *hot = reply
        ranked = {family: [_text(one) for one in hashes] for family, hashes in zip(families, hot, strict=False)}
        return Answer(verdict=_text(verdict), salt=_text(its_salt), hot=ranked)  # type: ignore[arg-type]  # see the script

    def _signature(self, shipment: Shipment) -> str:
        """Sign what `access.lua` makes of these; empty without a signer."""
        if self._signer is None:
            return ""
        fields: dict[str, str | bytes] = {"v": "1", "p": shipment.producer, "s": str(shipment.seq), "d": shipment.body}
        return self._signer.sign_entry(wire.ACCESS_LOG, fields)


@cache
def _script() -> tuple[str, str]:
    script = files("nightcrew.cache").joinpath("access.lua").read_text(encoding="utf-8")
    return script, hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 - the name that EVALSHA knows a script by


def _text(told: str | bytes) -> str:
    return told.decode(errors="replace") if isinstance(told, bytes) else told
