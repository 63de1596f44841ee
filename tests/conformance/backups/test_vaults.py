"""What every vault keeps."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tasks.backups.vaults import VaultDamagedError, VaultMissingError, VaultPasswordError
from tasks.errors import CancelledError, PermanentError, TransientError
from tests.support.restic import go_on, staged, tags_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.backups.conftest import Keeper

FILES = {
    "manifest.json": b"\xff\x00 no text, and no line at its end",
    "database/full.sqlite.zst": os.urandom(300_000),
    "config/empty": b"",
}


def put(keeper: Keeper, point: str = "0123456789ab", *, sequence: int = 0) -> str:
    """Store the files under a point, and give the id of the snapshot."""
    stage = keeper.directory / f"stage-{point}"
    sizes = staged(stage, FILES)
    tags = tags_of(point, sequence=sequence)
    return keeper.vault.put(stage, tags=tags, sizes=sizes, progress=go_on).snapshot.id


def test_what_is_put_comes_back(keeper: Keeper) -> None:
    """Names, sizes and bytes are those that were given, whatever the bytes are."""
    stage = keeper.directory / "stage"
    sizes = staged(stage, FILES)
    told: list[tuple[str, int, int | None]] = []
    stored = keeper.vault.put(
        stage, tags=tags_of(), sizes=sizes, progress=lambda *now: told.append((now[0], now[1], now[2]))
    )
    assert keeper.vault.list() == [stored.snapshot]
    assert stored.snapshot.tags == tags_of()
    assert 300_000 <= stored.added_bytes <= 320_000
    assert told
    assert {total for _, _, total in told} == {sum(sizes.values())}
    assert keeper.vault.sizes(stored.snapshot.id) == sizes
    assert keeper.vault.read(stored.snapshot.id, "manifest.json") == FILES["manifest.json"]
    wanted = ["database/full.sqlite.zst", "config/empty"]
    keeper.vault.get(stored.snapshot.id, wanted, keeper.directory / "back", progress=go_on)
    back = {path.relative_to(keeper.directory / "back").as_posix(): path for path in _files(keeper.directory / "back")}
    assert {name: path.read_bytes() for name, path in back.items()} == {name: FILES[name] for name in wanted}


def test_snapshots_are_named_oldest_first(keeper: Keeper) -> None:
    """Those of other runs stay where they are."""
    ids = [put(keeper, f"{number:012x}", sequence=number) for number in range(2)]
    assert [one.id for one in keeper.vault.list()] == ids
    assert [one.tags.sequence for one in keeper.vault.list()] == [0, 1]


@pytest.mark.parametrize(
    "sizes",
    [
        {"manifest.json": 3, "database/full": 4},
        {"manifest.json": 4},
        {},
    ],
    ids=["missing", "other size", "nothing"],
)
def test_nothing_is_stored_of_a_stage_that_is_not_as_it_was_written(keeper: Keeper, sizes: dict[str, int]) -> None:
    """A source that is missing, empty or of another size is no point."""
    stage = keeper.directory / "stage"
    staged(stage, {"manifest.json": b"{}\n"})
    before = keeper.vault.size().stored_bytes
    with pytest.raises((PermanentError, TransientError)):
        keeper.vault.put(stage, tags=tags_of(), sizes=sizes, progress=go_on)
    assert keeper.vault.list() == []
    assert keeper.vault.size().stored_bytes == before


def test_nothing_is_stored_that_nobody_named(keeper: Keeper) -> None:
    """A file too many is as wrong as one too few."""
    stage = keeper.directory / "stage"
    sizes = staged(stage, {"manifest.json": b"{}\n"})
    staged(stage, {"left-over": b"x"})
    with pytest.raises((VaultDamagedError, TransientError)):
        keeper.vault.put(stage, tags=tags_of(), sizes=sizes, progress=go_on)
    assert keeper.vault.list() == []


def test_a_name_that_is_not_there_is_no_success(keeper: Keeper) -> None:
    """Nothing is left where it was to be written; what stands there already stays."""
    snapshot_id = put(keeper)
    to = keeper.directory / "back"
    with pytest.raises(VaultDamagedError):
        keeper.vault.get(snapshot_id, ["manifest.json", "database/delta"], to, progress=go_on)
    assert not to.exists()
    staged(to, {"precious": b"1"})
    with pytest.raises(FileExistsError):
        keeper.vault.get(snapshot_id, ["manifest.json"], to, progress=go_on)
    assert (to / "precious").exists()
    with pytest.raises(VaultDamagedError):
        keeper.vault.sizes("0" * 64)


def test_a_vault_opens_with_its_own_password(keeper: Keeper) -> None:
    """To prepare one again changes nothing; another password is refused."""
    snapshot_id = put(keeper)
    keeper.vault.prepare()
    assert [one.id for one in keeper.vault.list()] == [snapshot_id]
    keeper.place_of("primary", password="another")
    for refused in (keeper.vault.prepare, keeper.vault.list, lambda: keeper.vault.check(progress=go_on)):
        with pytest.raises(VaultPasswordError):
            refused()


def test_no_vault_is_made_over_something_else(keeper: Keeper) -> None:
    """A place with other files in it is somebody's; one that is not there is no empty vault."""
    elsewhere = keeper.place_of("other")
    with pytest.raises(VaultMissingError):
        keeper.open(elsewhere).list()
    if not keeper.is_local:
        return  # the engine does not say what else lies on a server, and touches nothing that is not its own
    staged(keeper.files / "other", {"thesis.txt": b"mine"})
    with pytest.raises(VaultMissingError):
        keeper.open(elsewhere).prepare()
    assert [path.name for path in _files(keeper.files / "other")] == ["thesis.txt"]


def test_what_is_forgotten_gives_its_space_back(keeper: Keeper) -> None:
    """The others stay whole; an id that is not known is no error."""
    stage = keeper.directory / "large"
    sizes = staged(stage, {"manifest.json": os.urandom(2_000_000)})
    large = keeper.vault.put(stage, tags=tags_of("00000000000a"), sizes=sizes, progress=go_on).snapshot
    small = put(keeper)
    before = keeper.vault.size()
    keeper.vault.forget([large.id, "f" * 64], progress=go_on)
    after = keeper.vault.size()
    assert before.stored_bytes - after.stored_bytes >= 1_900_000
    assert (after.free_bytes is not None) is keeper.is_local, "how much a server has left cannot be known"
    assert [one.id for one in keeper.vault.list()] == [small]
    keeper.vault.check(read=(1, 1), progress=go_on)


def test_an_append_only_vault_keeps_everything(keeper: Keeper) -> None:
    """Its retention belongs to another machine, and the error says so."""
    snapshot_id = put(keeper)
    vault = keeper.open(replace(keeper.place, is_append_only=True))
    with pytest.raises(PermanentError, match="another machine"):
        vault.forget([snapshot_id], progress=go_on)
    assert [one.id for one in vault.list()] == [snapshot_id]


def test_a_copy_is_made_once(keeper: Keeper) -> None:
    """The second vault has its own password, the same tags and moments, and stands alone."""
    first = put(keeper)
    second = keeper.second("a password of its own")
    copies = keeper.vault.copy_to(second, [first], progress=go_on)
    later = put(keeper, "00000000000b", sequence=1)
    again = keeper.vault.copy_to(second, [first, later], progress=go_on)
    assert again[first] == copies[first]
    there = keeper.open(second)
    assert [one.id for one in there.list()] == [again[first], again[later]]
    described = [[(one.tags, one.stored_at) for one in vault.list()] for vault in (keeper.vault, there)]
    assert described[0] == described[1]
    assert there.read(again[later], "manifest.json") == FILES["manifest.json"]
    with pytest.raises(VaultDamagedError):
        keeper.vault.copy_to(second, ["e" * 64], progress=go_on)


def test_the_points_of_another_crew_are_left_alone(keeper: Keeper) -> None:
    """Two crews in one vault: neither lists, deletes nor copies what the other has; who has no name sees all."""
    ours, theirs = (keeper.open(replace(keeper.place, crew=name)) for name in ("crew-a", "crew-b"))
    sizes = staged(keeper.directory / "stage", FILES)
    ids = [
        vault.put(keeper.directory / "stage", tags=tags_of(point), sizes=sizes, progress=go_on).snapshot.id
        for vault, point in ((ours, "00000000000a"), (theirs, "00000000000b"))
    ]
    assert [[one.id for one in vault.list()] for vault in (ours, theirs)] == [[ids[0]], [ids[1]]]
    theirs.forget([ids[0]], progress=go_on)
    with pytest.raises(VaultDamagedError):
        theirs.copy_to(keeper.second("a password of its own"), [ids[0]], progress=go_on)
    assert [one.id for one in keeper.vault.list()] == ids
    assert ours.read(ids[0], "manifest.json") == FILES["manifest.json"]


def test_work_that_is_called_off_leaves_nothing(keeper: Keeper) -> None:
    """Neither a snapshot nor a directory; the vault is as good as before."""
    stage = keeper.directory / "stage"
    sizes = staged(stage, {"manifest.json": os.urandom(3_000_000)})

    def call_off(phase: str, done: int, total: int | None = None) -> None:
        msg = f"{phase} {done} {total}"
        raise CancelledError(msg)

    with pytest.raises(CancelledError):
        keeper.vault.put(stage, tags=tags_of(), sizes=sizes, progress=call_off)
    assert keeper.vault.list() == []
    keeper.vault.put(stage, tags=tags_of(), sizes=sizes, progress=go_on)
    keeper.vault.check(progress=go_on)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
