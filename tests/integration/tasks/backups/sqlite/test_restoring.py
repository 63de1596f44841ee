"""A chain comes back as the file that was captured, or not at all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tasks.backups.manifest import Database
from tasks.backups.staging import Link
from tasks.backups.store.captures.sqlite_restoring import BrokenChainError, restore_sqlite
from tasks.errors import CancelledError, PermanentError
from tests.integration.tasks.backups.sqlite.capturing import (
    LEDGER,
    Heard,
    Taken,
    files_limited_to,
    new_database,
    raising,
    run_script,
    silent,
    take,
)

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("database/full.sqlite.zst", "database/delta.pages.zst", "database/delta.pages.zst")


@pytest.fixture
def chain(tmp_path: Path) -> list[Taken]:
    """Give a full and two incrementals."""
    source = new_database(tmp_path / "live.db", LEDGER)
    taken = [take(source)]
    for _ in range(2):
        run_script(source, "UPDATE accounts SET balance = balance + 1 WHERE id % 7 = 3")
        taken.append(take(source, parent=taken[-1]))
    return taken


def _restore(chain: list[Taken] | list[Link], to: Path) -> None:
    restore_sqlite([one.link if isinstance(one, Taken) else one for one in chain], to, progress=silent)


def test_every_point_restores(chain: list[Taken], tmp_path: Path) -> None:
    """Byte by byte, for this user alone, with nothing left beside it."""
    (tmp_path / "out").mkdir()
    for length in (1, 2, 3):
        to = tmp_path / "out" / f"{length}.db"
        _restore(chain[:length], to)
        assert hashlib.sha256(to.read_bytes()).hexdigest() == chain[length - 1].capture.expected.file_sha256
        assert to.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.db", "2.db", "3.db"]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("damage", ["flipped", "cut", "lengthened", "swapped", "gone"])
def test_damaged_members_publish_nothing(chain: list[Taken], tmp_path: Path, place: int, damage: str) -> None:
    """Whichever link it is, and although nobody has checked the members' hashes."""
    path = chain[place].directory / NAMES[place]
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "cut": content[:-20],
            "lengthened": content + content,
            "swapped": (chain[2 - place].directory / NAMES[2 - place]).read_bytes() if place != 1 else b"",
            "gone": b"",
        }[damage]
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(PermanentError):
        _restore(chain, tmp_path / "out" / "a.db")
    assert list((tmp_path / "out").iterdir()) == []


def test_links_that_are_no_chain_are_refused(chain: list[Taken], tmp_path: Path) -> None:
    """Nothing, no full, a gap, a wrong order, a delta twice, another full."""
    full, first, second = chain
    other = take(tmp_path / "live.db")
    for wrong in (
        [],
        [first],
        [full, second],
        [full, second, first],
        [full, first, first],
        [other, first],
        [full, full],
    ):
        with pytest.raises(BrokenChainError):
            _restore(wrong, tmp_path / "a.db")
    assert not (tmp_path / "a.db").exists()


def test_manifest_of_another_state_is_refused(chain: list[Taken], tmp_path: Path) -> None:
    """The members fit each other, and not what the point says that it restores to."""
    for place in (0, 2):
        manifest = chain[place].manifest
        assert isinstance(manifest.database, Database)
        wrong = manifest.database.model_copy(update={"file_sha256": "0" * 64})
        links = [one.link for one in chain[: place + 1]]
        links[place] = Link(manifest=manifest.model_copy(update={"database": wrong}), directory=links[place].directory)
        with pytest.raises(BrokenChainError, match=manifest.point):
            _restore(links, tmp_path / "a.db")
    assert not (tmp_path / "a.db").exists()


def test_nothing_is_overwritten(chain: list[Taken], tmp_path: Path) -> None:
    """A file or a dangling link at the place stays what it is."""
    (tmp_path / "a.db").write_text("mine")
    (tmp_path / "b.db").symlink_to(tmp_path / "nowhere")
    for name in ("a.db", "b.db"):
        with pytest.raises(FileExistsError):
            _restore(chain, tmp_path / name)
    assert (tmp_path / "a.db").read_text() == "mine"
    assert (tmp_path / "b.db").is_symlink()


def test_full_disk_publishes_nothing(chain: list[Taken], tmp_path: Path) -> None:
    """Half a database is no database."""
    (tmp_path / "out").mkdir()
    with files_limited_to((tmp_path / "live.db").stat().st_size // 2), pytest.raises(OSError, match="too large"):
        _restore(chain, tmp_path / "out" / "a.db")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("phase", ["decompressing", "applying"])
def test_restore_can_be_called_off(chain: list[Taken], tmp_path: Path, phase: str) -> None:
    """In each phase, and leaves nothing behind."""
    (tmp_path / "out").mkdir()
    cancel = Heard(phase, raising(CancelledError(phase)))
    with pytest.raises(CancelledError, match=phase):
        restore_sqlite([one.link for one in chain], tmp_path / "out" / "a.db", progress=cancel)
    assert list((tmp_path / "out").iterdir()) == []
