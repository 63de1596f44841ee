"""Directories and sockets of the crew."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from workers.supervisor.directories import place_socket, prepare_directory, remove_socket
from workers.supervisor.errors import DataDirectoryError


def test_a_missing_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Nobody else can enter."""
    made = prepare_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """The message says which path, and how to choose another."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match=r"file/data cannot be made: .*--data-dir"):
        prepare_directory(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_the_directory_of_another_user_is_refused_with_the_fix(tmp_path: Path) -> None:
    """A server that writes as another user would lock its owner out."""
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(DataDirectoryError, match=r"belongs to user id 12345.*chown -R"):
        prepare_directory(tmp_path)


def test_a_short_path_is_used_as_it_is() -> None:
    """Nothing lies outside the data directory unless it must."""
    path = Path("/var/lib/nightcrew/broker/broker.sock")
    assert place_socket(path) == path


def test_a_long_path_gets_the_same_short_private_place_each_time(tmp_path: Path) -> None:
    """The kernel takes 107 bytes; the place leads nobody else in, and goes when the socket goes."""
    wanted = tmp_path / ("long" * 30) / "broker.sock"
    placed = place_socket(wanted)
    assert placed == place_socket(wanted) != place_socket(wanted.with_name("x") / "broker.sock")
    assert len(os.fsencode(placed)) <= 100
    assert stat.S_IMODE(placed.parent.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(placed))
    remove_socket(placed, wanted=wanted)
    assert not placed.parent.exists()
    remove_socket(place_socket(wanted.with_name("x") / "broker.sock"), wanted=wanted)


def test_a_short_place_open_to_others_is_refused(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Someone who made the directory first could listen in our stead."""
    wanted = tmp_path / ("long" * 30) / "broker.sock"
    directory = place_socket(wanted).parent
    request.addfinalizer(directory.rmdir)
    directory.chmod(0o777)
    with pytest.raises(DataDirectoryError, match="open to others"):
        place_socket(wanted)


def test_something_else_than_a_socket_is_not_removed() -> None:
    """The server would delete a file that lies where its socket shall be."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "broker.sock"
        path.write_text("precious")
        with pytest.raises(DataDirectoryError, match="is in the way of a socket"):
            place_socket(path)
        assert path.read_text() == "precious"
