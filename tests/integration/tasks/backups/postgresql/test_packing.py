"""Members are what a person with `zstd` and `tar` can open, and nothing in them lands elsewhere."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from tasks.backups.store.captures.postgresql.packing import (
    pack_directory,
    pack_file,
    unpack_directory,
    unpack_file,
)
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path

_FRAME_BYTES = 4 * 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, _FRAME_BYTES, 2 * _FRAME_BYTES + 12345])
def test_a_file_comes_back(tmp_path: Path, size: int) -> None:
    """Whatever its size; name, length and hash of the member are those of the file."""
    content = os.urandom(size // 2) + bytes(size - size // 2)
    (tmp_path / "raw").write_bytes(content)
    told: list[int] = []
    member = pack_file(tmp_path / "raw", tmp_path, "database/raw.zst", tick=told.append)
    packed = tmp_path / "database" / "raw.zst"
    assert (member.size_bytes, member.sha256) == (packed.stat().st_size, _sha256(packed))
    assert not (tmp_path / "raw").exists()
    assert told[-1] == size
    unpack_file(packed, tmp_path / "back", tick=told.append)
    assert (tmp_path / "back").read_bytes() == content


def test_what_has_not_changed_is_the_same_bytes(tmp_path: Path) -> None:
    """A change at the front leaves all later frames as they were: an engine stores them once."""
    content = os.urandom(3 * _FRAME_BYTES)
    packed = []
    for name, text in (("a", content), ("b", b"x" * 100 + content[100:])):
        (tmp_path / name).write_bytes(text)
        pack_file(tmp_path / name, tmp_path, f"database/{name}.zst", tick=_ignore)
        packed.append((tmp_path / "database" / f"{name}.zst").read_bytes())
    assert packed[0] != packed[1]
    assert packed[0][-_FRAME_BYTES:] == packed[1][-_FRAME_BYTES:]


def test_a_directory_comes_back_without_our_help(tmp_path: Path) -> None:
    """`tar` of the system reads it; so do we, over what is there already."""
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "base" / "1").mkdir(parents=True)
    (source / "base" / "1" / "4146").write_bytes(b"x" * 9000)
    (source / "base" / "1" / "2").write_bytes(b"")
    pack_directory(source, tmp_path, "database/base.tar.zst", tick=_ignore)
    packed = tmp_path / "database" / "base.tar.zst"
    raw = tmp_path / "base.tar"
    unpack_file(packed, raw, tick=_ignore)
    listed = subprocess.run(["tar", "-tf", raw], check=True, capture_output=True, text=True).stdout.split()  # noqa: S607
    assert sorted(listed) == ["base/", "base/1/", "base/1/2", "base/1/4146", "empty/"]
    target = tmp_path / "target"
    (target / "base" / "1").mkdir(parents=True)
    (target / "base" / "1" / "4146").write_bytes(b"old")
    unpack_directory(packed, target, tick=_ignore)
    assert (target / "base" / "1" / "4146").read_bytes() == b"x" * 9000
    assert (target / "empty").is_dir()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_nothing_lands_outside(tmp_path: Path, name: str) -> None:
    """An archive that was made to write elsewhere is refused."""
    _archive(tmp_path / "evil.tar.zst", tarfile.TarInfo(name))
    with pytest.raises(PermanentError, match="has no place"):
        unpack_directory(tmp_path / "evil.tar.zst", tmp_path / "target", tick=_ignore)
    assert not (tmp_path / "outside").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    """On the way in and on the way out."""
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    _archive(tmp_path / "evil.tar.zst", link)
    with pytest.raises(PermanentError, match="has no place"):
        unpack_directory(tmp_path / "evil.tar.zst", tmp_path / "target", tick=_ignore)
    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to("/etc")
    with pytest.raises(PermanentError, match="neither a file nor a directory"):
        pack_directory(source, tmp_path, "database/base.tar.zst", tick=_ignore)


@pytest.mark.parametrize("damage", ["flip", "cut", "replace"])
def test_damage_is_an_error(tmp_path: Path, damage: str) -> None:
    """Each frame has its checksum, and an archive its end."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(_FRAME_BYTES + 100_000))
    pack_directory(source, tmp_path, "database/base.tar.zst", tick=_ignore)
    packed = tmp_path / "database" / "base.tar.zst"
    content = bytearray(packed.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    packed.write_bytes(
        {"flip": bytes(content), "cut": bytes(content[:-50_000]), "replace": b"nothing of the kind"}[damage]
    )
    with pytest.raises(PermanentError, match=r"base\.tar\.zst cannot be unpacked"):
        unpack_directory(packed, tmp_path / "target", tick=_ignore)


def _archive(path: Path, entry: tarfile.TarInfo) -> None:
    raw = io.BytesIO()
    with tarfile.open(mode="w", fileobj=raw) as archive:
        archive.addfile(entry, io.BytesIO())
    path.write_bytes(zstandard.ZstdCompressor().compress(raw.getvalue()))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ignore(done: int) -> None:
    assert done >= 0
