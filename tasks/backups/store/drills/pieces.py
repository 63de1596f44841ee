"""Where in a local vault the pieces of a file lie: asked of restic, which alone can read that.

A snapshot has a tree of directories, a tree names the pieces of each file, and an index says in which pack a piece lies
and where in it. All three are JSON, and part of the format of the repository
(https://restic.readthedocs.io/en/stable/100_references.html#repository-format); `restic cat` opens them.

A vault has an index of each backup, and to open one takes a start of the engine, half a second. So `restic find` names
the packs first: the index that was written next after a pack most often tells of it. What `find` says is for people,
and may change: all indexes are opened then.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.vaults import VaultDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from tasks.backups.store.restic.program import Restic

_PACK: Final = re.compile(r"belongs to pack ([0-9a-f]{64})")
_LONG_AFTER_S: Final = 1e12
"""An index that was written before a pack knows it only where the times of files were lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a file, or a directory of a snapshot, compressed and encrypted."""

    pack: str
    """The file that it lies in, with others."""
    offset: int
    length: int


def pack_path(pack: str) -> str:
    """Say where a pack lies in a local vault."""
    return f"data/{pack[:2]}/{pack}"


def locate(
    restic: Restic, vault: Path, snapshot: str, names: Iterable[str], tick: Callable[[], None]
) -> dict[str, Sequence[Piece]]:
    """Find the pieces of files of a snapshot by name, and under the name `` those of the directories on the way.

    Nothing is written to the vault, not even a lock. `tick` is a checkpoint.

    Raises:
        VaultError: the vault does not give that.
    """
    tree = _Tree(restic, snapshot, tick)
    wanted = {name: tree.pieces(name) for name in names}
    of_files = [piece for pieces in wanted.values() for piece in pieces]
    packs = _packs(restic, snapshot, "--blob", of_files) | _packs(restic, snapshot, "--tree", tree.opened)
    wanted[""] = tree.opened
    found = _find(restic, _in_order(vault, packs), {*of_files, *tree.opened}, tick)
    return {name: [found[piece] for piece in pieces] for name, pieces in wanted.items()}


class _Tree:
    """The directories of a snapshot, opened one by one."""

    def __init__(self, restic: Restic, snapshot: str, tick: Callable[[], None]) -> None:
        self._restic, self._tick = restic, tick
        self.opened: list[str] = []
        self._nodes = {"": self._open(self._cat("snapshot", snapshot)["tree"])}

    def pieces(self, name: str) -> Sequence[str]:
        """Give the ids of the pieces of a file."""
        directory, _, last = name.rpartition("/")
        return self._in(directory)[last].get("content") or ()

    def _in(self, directory: str) -> dict[str, Any]:
        if directory not in self._nodes:
            above, _, name = directory.rpartition("/")
            self._nodes[directory] = self._open(self._in(above)[name]["subtree"])
        return self._nodes[directory]

    def _open(self, tree: str) -> dict[str, Any]:
        self.opened.append(tree)
        return {node["name"]: node for node in self._cat("blob", tree)["nodes"]}

    def _cat(self, *arguments: str) -> Any:
        self._tick()
        return json.loads("".join(self._restic.ask_for_lines("a tree cannot be read", ["cat", *arguments])))


def _packs(restic: Restic, snapshot: str, kind: str, ids: Sequence[str]) -> set[str]:
    """Name the packs of some pieces, as far as the engine tells them in words that we know."""
    what = "the packs of a file cannot be found"
    arguments = ["find", "--show-pack-id", "--snapshot", snapshot, kind, *dict.fromkeys(ids)]
    return set(_PACK.findall("\n".join(restic.ask_for_lines(what, arguments)))) if ids else set()


def _in_order(vault: Path, packs: Collection[str]) -> list[str]:
    """Name the indexes of a vault, those first that were written next after one of these packs."""
    written_s = [(vault / pack_path(pack)).stat().st_mtime for pack in packs if (vault / pack_path(pack)).exists()]

    def distance_s(index: Path) -> float:
        after_s = [index.stat().st_mtime - at_s for at_s in written_s]
        return min((one if one >= 0 else _LONG_AFTER_S - one for one in after_s), default=0)

    return [index.name for index in sorted((vault / "index").iterdir(), key=distance_s)]


def _find(restic: Restic, indexes: Sequence[str], wanted: set[str], tick: Callable[[], None]) -> dict[str, Piece]:
    """Open one index after the other until each piece is found."""
    found: dict[str, Piece] = {}
    for index in indexes:
        if wanted == found.keys():
            break
        tick()
        lines = restic.ask_for_lines("an index cannot be read", ["cat", "index", index])
        for pack in json.loads("".join(lines))["packs"]:
            for blob in pack["blobs"]:
                if blob["id"] in wanted:
                    found[blob["id"]] = Piece(pack=pack["id"], offset=blob["offset"], length=blob["length"])
    if missing := wanted - found.keys():
        msg = f"no index of the vault says where {len(missing)} pieces lie, the first is {min(missing)[:8]}"
        raise VaultDamagedError(msg)
    return found
