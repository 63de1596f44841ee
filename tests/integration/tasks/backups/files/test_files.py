"""Files that are taken as they are, and those that are not."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tasks.backups.staging import FilesCapture, Stage
from tasks.backups.store.captures.files import FileNotTakenError, capture_files
from tasks.errors import CancelledError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path


def test_files_are_taken_as_they_are(tmp_path: Path) -> None:
    """Content, hash, permissions and origin are those of the file; the copy is for nobody else."""
    settings = _file(tmp_path / "nightcrew.toml", b"[broker]\n", mode=0o640)
    empty = _file(tmp_path / "empty.env", b"")

    captured = _capture(tmp_path, [settings, empty])

    assert [member.name for member in captured.members] == ["config/nightcrew.toml", "config/empty.env"]
    assert [(file.origin, file.mode) for file in captured.expected] == [(str(settings), 0o640), (str(empty), 0o600)]
    assert captured.members[0].sha256 == hashlib.sha256(b"[broker]\n").hexdigest()
    assert captured.size_bytes == captured.members[0].size_bytes == 9
    copy = tmp_path / "stage/config/nightcrew.toml"
    assert copy.read_bytes() == b"[broker]\n"
    assert copy.stat().st_mode & 0o777 == 0o600


def test_names_do_not_collide(tmp_path: Path) -> None:
    """Files of one name from several directories are all kept apart, whatever their names are made of."""
    names = [
        "one/app.toml",
        "two/app.toml",
        "three/APP.toml",
        "one/.env",
        "one/_",
        "one/naïve file",
        f"one/{'_' * 200}",
    ]
    paths = [_file(tmp_path / name, name.encode()) for name in names]
    paths.append(_file(tmp_path / os.fsdecode(b"one/\xff\xfe"), b"no text"))

    captured = _capture(tmp_path, [*paths, paths[0]])

    assert len({member.name.casefold() for member in captured.members}) == len(paths)
    for path, member in zip(paths, captured.members, strict=True):
        assert (tmp_path / "stage" / member.name).read_bytes() == path.read_bytes()
    assert captured.members[1].name == "config/app-2.toml"
    assert captured.members[3].name == "config/dot.env"


def test_a_link_is_followed(tmp_path: Path) -> None:
    """What is taken is what a reader of the path gets, under the name that was given."""
    _file(tmp_path / "..2026/real", b"content")
    (tmp_path / "app.toml").symlink_to("..2026/real")

    captured = _capture(tmp_path, [tmp_path / "app.toml"])

    assert captured.members[0].name == "config/app.toml"
    assert (tmp_path / "stage/config/app.toml").read_bytes() == b"content"
    assert captured.expected[0].origin == str(tmp_path / "app.toml")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda _: None, "is not there"),
        (lambda path: path.symlink_to("nowhere"), "is not there"),
        (lambda path: path.mkdir(), "is a directory"),
        (os.mkfifo, "is no plain file"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
    ],
    ids=["missing", "link to nowhere", "directory", "pipe", "link to itself"],
)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    """The error names the file and the setting, and nothing hangs."""
    path = tmp_path / "app.toml"
    make(path)

    with pytest.raises(FileNotTakenError, match=rf"app\.toml {why}.*backups\.config_files"):
        _capture(tmp_path, [path])


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_the_password_of_a_vault_is_never_taken(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    """A backup that holds the key to itself is refused, by whatever name the key is given."""
    password = _file(tmp_path / "keys/vault", b"secret")
    link(password, tmp_path / "innocent.toml")

    for path in (password, tmp_path / "innocent.toml"):
        with pytest.raises(FileNotTakenError, match="is the password of a vault"):
            _capture(tmp_path, [path], passwords=[tmp_path / "gone", password])

    assert not [path for path in tmp_path.rglob("stage*/*/*") if path.read_bytes() == b"secret"]


def test_a_model_is_taken_with_its_manifest(tmp_path: Path) -> None:
    """Manifest and signature lie beside the model, and come with it."""
    model = _file(tmp_path / "model.pkl", b"model")
    _file(tmp_path / "model.manifest.json", b"{}")
    _file(tmp_path / "model.manifest.sig", b"signature")

    captured = _capture(tmp_path, [], model=model)

    assert [(member.name, member.part) for member in captured.members] == [
        ("model/model.pkl", "model"),
        ("model/model.manifest.json", "model"),
        ("model/model.manifest.sig", "model"),
    ]


def test_a_model_without_a_manifest_is_taken_and_told(tmp_path: Path) -> None:
    """It is better kept than lost, and somebody should know."""
    model = _file(tmp_path / "model.pkl", b"model")

    with capture_logs() as logs:
        captured = _capture(tmp_path, [], model=model)

    assert [member.name for member in captured.members] == ["model/model.pkl"]
    assert [line["event"] for line in logs] == ["backups.model_without_manifest"]


@pytest.mark.parametrize(("content", "why"), [(b"", "is empty"), (None, "is not there")])
def test_a_model_that_is_none_is_refused(tmp_path: Path, content: bytes | None, why: str) -> None:
    """A model is a file with something in it."""
    model = tmp_path / "model.pkl"
    if content is not None:
        _file(model, content)

    with pytest.raises(FileNotTakenError, match=rf"{why}.*backups\.model_file"):
        _capture(tmp_path, [], model=model)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    """What is taken was there at one moment."""
    path = _file(tmp_path / "app.toml", b"a" * 3_000_000)
    rewritten: list[int] = []

    def rewrite(done: int) -> None:
        if done and not rewritten:
            rewritten.append(path.write_bytes(b"b" * 3_000_000))

    captured = _capture(tmp_path, [path], meanwhile=rewrite)

    assert captured.members[0].sha256 == hashlib.sha256(b"b" * 3_000_000).hexdigest()


def test_a_model_that_is_replaced_comes_with_its_own_manifest(tmp_path: Path) -> None:
    """The manifest of the next model is not taken with the model before it."""
    model = _file(tmp_path / "model.pkl", b"old model")
    manifest = _file(tmp_path / "model.manifest.json", b"old manifest")
    copied: list[int] = []

    def replace(done: int) -> None:
        copied.append(done)
        if len(copied) == 2:  # the model is copied, and its manifest is being copied
            _file(tmp_path / "new", b"new model").replace(model)
            _file(tmp_path / "new", b"new manifest").replace(manifest)

    _capture(tmp_path, [], model=model, meanwhile=replace)

    assert (tmp_path / "stage/model/model.pkl").read_bytes() == b"new model"
    assert (tmp_path / "stage/model/model.manifest.json").read_bytes() == b"new manifest"


def test_a_file_that_never_rests_is_tried_later(tmp_path: Path) -> None:
    """There is an end to reading again."""
    path = _file(tmp_path / "app.toml", b"content")

    def grow(_done: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(TransientError, match=r"app\.toml did not stay the same"):
        _capture(tmp_path, [path], meanwhile=grow)


def test_taking_files_can_be_called_off(tmp_path: Path) -> None:
    """What the progress raises passes."""
    path = _file(tmp_path / "app.toml", b"content")

    def call_off(_done: int) -> None:
        raise CancelledError("called off")

    with pytest.raises(CancelledError):
        _capture(tmp_path, [path], meanwhile=call_off)


class _Meanwhile:
    """A progress that does something else whenever it hears of the copying."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        del phase, total
        self._act(done)


def _capture(
    tmp_path: Path,
    config_files: Sequence[Path],
    *,
    model: Path | None = None,
    passwords: Collection[Path] = (),
    meanwhile: Callable[[int], None] = lambda _: None,
) -> FilesCapture:
    stage = Stage(directory=tmp_path / "stage", progress=_Meanwhile(meanwhile))
    stage.directory.mkdir(exist_ok=True)
    return capture_files(config_files=config_files, model_file=model, password_files=passwords, stage=stage)


def _file(path: Path, content: bytes, *, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path
