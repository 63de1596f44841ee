"""Password files of vaults, on a real disk."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tasks.backups.store.keys import PasswordFileError, check_password_file, make_password_file, read_password

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "vault-password"


def test_a_password_is_random_and_for_its_owner_alone(path: Path, tmp_path: Path) -> None:
    """256 bits, mode 600 whatever the umask is, in a directory that others cannot look into."""
    before = os.umask(0)
    try:
        assert make_password_file(path)
    finally:
        os.umask(before)
    make_password_file(tmp_path / "other")
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert len(read_password(path)) == 43  # 32 bytes in base64
    assert read_password(path) != read_password(tmp_path / "other")
    assert [one.name for one in path.parent.iterdir()] == ["vault-password"], "no draft is left"


def test_a_password_is_never_written_over(path: Path) -> None:
    """Who calls it again, however many at once, finds the first one."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_password_file(path), range(16)))
    assert made.count(True) == 1
    before = read_password(path)
    assert not make_password_file(path)
    assert read_password(path) == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    """The text has the command that mends it, and nothing of the password."""
    make_password_file(path)
    password = read_password(path)
    path.chmod(mode)
    with pytest.raises(PasswordFileError, match=f"chmod 600 {path}") as caught:
        check_password_file(path)
    assert password not in str(caught.value)


def test_a_missing_empty_or_unreadable_file_is_refused(path: Path) -> None:
    """Each with what to do about it."""
    with pytest.raises(PasswordFileError, match="no password of the vault"):
        check_password_file(path)
    path.parent.mkdir()
    path.write_text("\n")
    path.chmod(0o600)
    with pytest.raises(PasswordFileError, match="is empty"):
        check_password_file(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PasswordFileError, match="it is no text"):
        check_password_file(path)
    with pytest.raises(PasswordFileError, match="cannot be read"):
        check_password_file(path.parent)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A password that could not be kept is never used."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PasswordFileError, match="cannot be written"):
        make_password_file(tmp_path / "file" / "vault-password")
