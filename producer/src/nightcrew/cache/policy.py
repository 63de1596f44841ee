"""How long values of each family are kept, in one document with a version that apps and crew share.

The document lies in the cache's Redis under `wire.CACHE_POLICY`; the crew keeps every version of it, and announces a
new one on `wire.CACHE_EVENTS`. An app that finds none goes by `DEFAULT_POLICY`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from nightcrew.errors import InvalidPolicyError

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

Mode = Literal["fixed", "sliding"]
"""`fixed`: filling and writing start the time to live; `sliding`: each hit does as well."""

SCHEMA: Final = 1
LONGEST_TTL_S: Final = 366 * 24 * 3600
_MOST_FAMILIES: Final = 64
_MOST_NAME: Final = 64
_BUCKETS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyPolicy:
    """How values of one family are kept."""

    ttl_s: float
    mode: Mode = "fixed"
    jitter: float = 0.1
    """Part of the time to live by which it is shortened at random, so that what was filled together does not end
    together. Never lengthened: a time to live bounds how old a value may be."""
    early_refresh: float = 1.0
    """How eagerly a value that is asked for often is filled again before its end (beta of XFetch: Vattani, Chierichetti
    and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015); 0 for never."""
    local_s: float = 60.0
    """While Redis is away: how old a value of this process's own copy may be that is still given; 0 for none."""

    def __post_init__(self) -> None:
        _check_number("ttl_s", self.ttl_s, 0.001, LONGEST_TTL_S)
        _check_number("jitter", self.jitter, 0.0, 0.9)
        _check_number("early_refresh", self.early_refresh, 0.0, 100.0)
        _check_number("local_s", self.local_s, 0.0, LONGEST_TTL_S)
        if self.mode not in get_args(Mode):
            msg = f"mode must be one of {', '.join(get_args(Mode))}, not {self.mode!r}"
            raise InvalidPolicyError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Another time to live, tried on a part of the keys of a family."""

    family: str
    ttl_s: float
    share: float
    """Of the keys, chosen by their hash: a key is always on the same side."""

    def __post_init__(self) -> None:
        _check_number("rollout ttl_s", self.ttl_s, 0.001, LONGEST_TTL_S)
        _check_number("rollout share", self.share, 0.0, 1.0)

    def covers(self, key: str) -> bool:
        """Tell on which side a key is."""
        digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8, person=b"rollout").digest()
        return int.from_bytes(digest, "big") % _BUCKETS < self.share * _BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """What holds for all families."""

    version: int
    """Grows by one with each change; 0 is what apps go by until somebody has changed anything."""
    families: Mapping[str, FamilyPolicy]
    rollout: Rollout | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.families) <= _MOST_FAMILIES:
            msg = f"a policy has 1 to {_MOST_FAMILIES} families, not {len(self.families)}"
            raise InvalidPolicyError(msg)
        for name in self.families:
            _check_name(name)
        if self.rollout is not None and self.rollout.family not in self.families:
            msg = f"the rollout is of the family {self.rollout.family!r}, which is not in the policy"
            raise InvalidPolicyError(msg)

    def family(self, name: str) -> FamilyPolicy:
        """Give a family.

        Raises:
            InvalidPolicyError: there is none of this name.
        """
        try:
            return self.families[name]
        except KeyError:
            msg = f"there is no family {name!r}; the policy has {', '.join(sorted(self.families))}"
            raise InvalidPolicyError(msg) from None

    def ttl_s(self, family: str, key: str) -> float:
        """Give the time to live of a key in seconds, without jitter."""
        if self.rollout is not None and self.rollout.family == family and self.rollout.covers(key):
            return self.rollout.ttl_s
        return self.family(family).ttl_s

    def ttl_ms(self, family: str, key: str, chance: random.Random) -> int:
        """Give the time for which a value that is written now is to be kept, shortened by jitter."""
        shortest = 1 - self.family(family).jitter
        return max(1, round(1_000 * self.ttl_s(family, key) * chance.uniform(shortest, 1.0)))

    def to_json(self) -> str:
        """Write it as the document that lies in Redis."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> CachePolicy:
        """Read the document.

        Raises:
            InvalidPolicyError: it is none.
        """
        try:
            return cls._from_document(json.loads(text))
        except InvalidPolicyError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            msg = f"this is no policy of the cache: {error}"
            raise InvalidPolicyError(msg) from None

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> CachePolicy:
        if document.pop("schema") != SCHEMA:
            msg = "this policy of the cache is of another schema"
            raise InvalidPolicyError(msg)
        families = {name: FamilyPolicy(**one) for name, one in document.pop("families").items()}
        rollout = document.pop("rollout", None)
        return cls(families=families, rollout=None if rollout is None else Rollout(**rollout), **document)


def _check_number(name: str, value: object, least: float, most: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        msg = f"{name} must be a number from {least:g} to {most:g}, not {value!r}"
        raise InvalidPolicyError(msg)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or len(name) > _MOST_NAME or not name.replace("-", "_").isidentifier():
        msg = f"a family is named by letters, digits, _ and -, {_MOST_NAME} characters at most, not {name!r}"
        raise InvalidPolicyError(msg)


DEFAULT_POLICY: Final = CachePolicy(
    version=0,
    families={
        "defaults": FamilyPolicy(ttl_s=3600),
        "statistics": FamilyPolicy(ttl_s=86400),
        "models": FamilyPolicy(ttl_s=3600),
        "configuration": FamilyPolicy(ttl_s=1800),
        "sessions": FamilyPolicy(ttl_s=7200, mode="sliding"),
    },
)
