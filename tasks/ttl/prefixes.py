"""Which family a key of the cache belongs to: the one with the longest prefix that the key begins with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nightcrew import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OTHER: Final = "other"
"""Family of all keys that begin with none of the prefixes."""


class Prefixes:
    """Prefixes of keys, each with the family that it stands for; several may stand for one."""

    def __init__(self, families: Mapping[str, str]) -> None:
        """Take prefix to family.

        Raises:
            ValueError: a prefix or a family is empty.
        """
        if not all(prefix and family for prefix, family in families.items()):
            raise ValueError("a prefix and its family have a character at least")
        self._families = {prefix.encode(errors="surrogateescape"): family for prefix, family in families.items()}
        # Of alternatives the first that fits is taken, so the longest stand first.
        longest_first = sorted(self._families, key=len, reverse=True)
        self._any = re.compile(b"|".join(map(re.escape, longest_first)))

    @property
    def families(self) -> list[str]:
        """Name all families, `other` last."""
        return [*sorted(set(self._families.values()) - {OTHER}), OTHER]

    def family_of(self, key: bytes) -> str:
        """Give the family of a key."""
        found = self._any.match(key)
        return self._families.get(found[0], OTHER) if found else OTHER


def family_prefixes(families: Iterable[str], more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give prefix to family for the families of a policy, and for the prefixes that operators name themselves."""
    return {wire.cache_prefix(family): family for family in families} | dict(more or {})
