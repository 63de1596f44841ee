"""What restic reports as success and is not, is a failure here; what it reports as failure says what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.backups.vaults import (
    EngineMissingError,
    VaultDamagedError,
    VaultMissingError,
    VaultPasswordError,
    VaultUnreachableError,
)
from tasks.errors import CrewError, PermanentError, TransientError
from tests.support.restic import (
    bare_restic,
    flip_byte,
    go_on,
    pack_of,
    place_in,
    restic_vault,
    staged,
    tags_of,
    wrapped_restic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tasks.backups.vaults import Snapshot, VaultPlace

FILES = {"manifest.json": b"{}\n", "database/full.sqlite.zst": os.urandom(200_000)}


def put(
    place: VaultPlace,
    directory: Path,
    *,
    program: str | Path = "restic",
    point: str = "0123456789ab",
    files: Mapping[str, bytes] = FILES,
) -> Snapshot:
    sizes = staged(directory / "stage", files)
    vault = restic_vault(place, program=program)
    return vault.put(directory / "stage", tags=tags_of(point), sizes=sizes, progress=go_on).snapshot


def test_a_source_that_went_away_is_no_success(place: VaultPlace, tmp_path: Path) -> None:
    """Between our look and the engine's: it stores the rest and ends with 0, and the rest is taken back."""
    program = wrapped_restic(tmp_path, before="rm database/full.sqlite.zst")
    with pytest.raises(VaultDamagedError, match="not what it was given"):
        put(place, tmp_path, program=program)
    assert restic_vault(place).list() == []


def test_a_source_of_another_size_is_no_success(place: VaultPlace, tmp_path: Path) -> None:
    """As many bytes in all are not the same bytes in each."""
    program = wrapped_restic(tmp_path, before="printf xx >> manifest.json; truncate -s -2 database/full.sqlite.zst")
    with pytest.raises(VaultDamagedError, match="not what it was given"):
        put(place, tmp_path, program=program)
    assert restic_vault(place).list() == []


@pytest.mark.parametrize("code", [3, 1, 130, 77])
def test_a_snapshot_of_a_run_that_failed_is_taken_back(place: VaultPlace, tmp_path: Path, code: int) -> None:
    """Code 3 says that the snapshot is not whole, and it is listed all the same; an unknown code is a failure."""
    program = wrapped_restic(tmp_path, after=f"code={code}")
    with pytest.raises(CrewError):
        put(place, tmp_path, program=program)
    assert restic_vault(place).list() == []


def test_a_run_without_a_summary_is_no_success(place: VaultPlace, tmp_path: Path) -> None:
    """An end with 0 proves nothing."""
    program = wrapped_restic(tmp_path, before="exit 0")
    with pytest.raises(VaultDamagedError):
        put(place, tmp_path, program=program)


def test_a_flipped_byte_is_found_by_reading(place: VaultPlace, tmp_path: Path) -> None:
    """A restore leaves a file of full length with a hole: it is deleted. Only a check that reads finds it before."""
    files = {**FILES, "database/full.sqlite.zst": os.urandom(3_000_000)}  # enough for several pieces
    snapshot = put(place, tmp_path, files=files)
    flip_byte(pack_of(place))
    vault = restic_vault(place)
    vault.check(progress=go_on)
    with pytest.raises(VaultDamagedError, match=r"does not match|decrypting"):
        vault.check(read=(1, 1), progress=go_on)
    found = [_is_found(place, (number, 3)) for number in (1, 2, 3)]
    assert found.count(True) == 1, "one slice of three has the pack, and all of them are all of the vault"
    to = tmp_path / "back"
    with pytest.raises(VaultDamagedError, match="ciphertext"):
        vault.get(snapshot.id, FILES, to, progress=go_on)
    assert not to.exists()
    left = bare_restic(place, "restore", snapshot.id, "--target", str(to))
    assert left.returncode == 1
    remains = to / "database/full.sqlite.zst"
    assert not remains.exists() or remains.stat().st_size == 3_000_000, "its length says that all is there"


@pytest.mark.parametrize("damage", [flip_byte, Path.unlink], ids=["flipped", "gone"])
def test_every_point_that_needs_a_damaged_pack_is_found(
    place: VaultPlace, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """The engine itself names but one of them for each chunk of data."""
    large = {**FILES, "database/full.sqlite.zst": os.urandom(2_000_000)}
    hit = [put(place, tmp_path, point=f"00000000000{number}", files=large).id for number in (1, 2)]
    pack = pack_of(place)
    other = {"manifest.json": b"shares nothing", "database/full.sqlite.zst": os.urandom(1_000)}
    put(place, tmp_path, point="000000000003", files=other)
    damage(pack)
    vault = restic_vault(place)
    with pytest.raises(VaultDamagedError) as caught:
        vault.check(read=(1, 1) if pack.exists() else None, progress=go_on)
    assert caught.value.pieces == (pack.name,)
    assert vault.users_of(caught.value.pieces, progress=go_on) == set(hit)
    assert vault.users_of([], progress=go_on) == set()
    assert vault.users_of(["0123456789abcdef"], progress=go_on) == set()


def test_a_later_point_of_a_damaged_vault_is_damaged_too(place: VaultPlace, tmp_path: Path) -> None:
    """The engine stores the same bytes once, so a new full rests on the old damage; reading tells."""
    put(place, tmp_path)
    flip_byte(pack_of(place))
    later = put(place, tmp_path, point="00000000000b")
    vault = restic_vault(place)
    with pytest.raises(VaultDamagedError):
        vault.get(later.id, FILES, tmp_path / "back", progress=go_on)
    with pytest.raises(VaultDamagedError):
        vault.check(read=(1, 1), progress=go_on)


def test_a_missing_pack_is_found_by_the_cheap_check(place: VaultPlace, tmp_path: Path) -> None:
    """The next point is stored as if nothing were amiss; the check after it tells."""
    put(place, tmp_path)
    pack_of(place).unlink()
    put(place, tmp_path, point="00000000000b")
    with pytest.raises(VaultDamagedError, match="does not exist"):
        restic_vault(place).check(progress=go_on)


@pytest.mark.chaos
def test_a_missing_pack_cannot_be_fetched(place: VaultPlace, tmp_path: Path) -> None:
    """The engine looks for it for most of a minute, and it is damage, not absence."""
    snapshot = put(place, tmp_path)
    pack_of(place).unlink()
    with pytest.raises(VaultDamagedError):
        restic_vault(place).get(snapshot.id, FILES, tmp_path / "back", progress=go_on)
    assert not (tmp_path / "back").exists()


def test_a_listing_with_a_hole_is_no_listing(place: VaultPlace, tmp_path: Path) -> None:
    """The engine leaves out a snapshot that it cannot read, and ends with 0: points would vanish in silence."""
    snapshot = put(place, tmp_path)
    file = Path(place.location) / "snapshots" / snapshot.id
    file.chmod(0o600)
    flip_byte(file)
    shutil.rmtree(place.password_file.parent / "cache")  # it would hide the damage for a while
    trap = bare_restic(place, "snapshots", "--json")
    assert (trap.returncode, json.loads(trap.stdout)) == (0, [])
    with pytest.raises(VaultDamagedError, match=snapshot.id[:8]):
        restic_vault(place).list()


def test_a_long_listing_is_read_whole(tmp_path: Path) -> None:
    """More points than fit into the last words of a program."""
    found = [
        {
            "id": f"{number:064x}",
            "time": "2026-03-01T12:00:00.123456789Z",
            "tags": [f"point:{number:012x}", "run:r", "profile:default", "kind:full", "chain:c", f"seq:{number}"],
            "paths": ["/x" * 100],
        }
        for number in range(500)
    ]
    (tmp_path / "said").write_text(json.dumps(found) + "\n")
    program = tmp_path / "restic"
    program.write_text(f"#!/bin/sh\ncat {tmp_path / 'said'}\n")
    program.chmod(0o700)
    listed = restic_vault(place_in(tmp_path), program=program).list()
    assert [one.tags.sequence for one in listed] == list(range(500))


def test_what_is_not_ours_is_left_alone(place: VaultPlace, tmp_path: Path) -> None:
    """A person may keep other things in the same vault."""
    ours = put(place, tmp_path)
    assert bare_restic(place, "backup", ".", "--tag", "point:unreadable", cwd=tmp_path / "stage").returncode == 0
    assert [one.id for one in restic_vault(place).list()] == [ours.id]


def test_a_wrong_password_is_told_from_a_missing_vault(place: VaultPlace, tmp_path: Path) -> None:
    """Both end with 1 before 0.17; neither is tried again, and neither makes a vault."""
    wrong = place_in(tmp_path / "elsewhere", location=place.location, password="wrong")
    with pytest.raises(VaultPasswordError, match="wrong password"):
        restic_vault(wrong).prepare()
    with pytest.raises(VaultMissingError, match="config"):
        restic_vault(place_in(tmp_path / "elsewhere", "nowhere")).check(progress=go_on)
    with pytest.raises(VaultUnreachableError):
        restic_vault(place_in(tmp_path / "elsewhere", "sealed", location="/proc/1/vault")).prepare()


def test_a_vault_that_was_there_is_not_made_anew(place: VaultPlace) -> None:
    """An empty directory where it was is a disk that is not mounted, and no reason to begin from nothing."""
    restic_vault(place).prepare()
    shutil.move(place.location, f"{place.location}-unmounted")
    for _ in range(2):
        with pytest.raises(VaultMissingError, match="bring it back"):
            restic_vault(place).prepare()
        Path(place.location).mkdir(exist_ok=True)
    assert list(Path(place.location).iterdir()) == []


def test_a_vault_without_its_config_is_not_made_anew(place: VaultPlace, tmp_path: Path) -> None:
    """Another key over the old data would bury it."""
    put(place, tmp_path)
    (Path(place.location) / "config").unlink()
    with pytest.raises(VaultMissingError, match="not empty"):
        restic_vault(place).prepare()


def test_a_missing_engine_comes_with_its_remedy(tmp_path: Path) -> None:
    """The line can be pasted."""
    with pytest.raises(EngineMissingError, match="sudo apt-get install restic"):
        restic_vault(place_in(tmp_path), program="restic-that-is-not-there").prepare()


@pytest.mark.parametrize(("said", "match"), [("restic 0.13.1 compiled", "too old"), ("bash 5", "no restic")])
def test_another_engine_is_refused(tmp_path: Path, said: str, match: str) -> None:
    """Before anything is asked of it."""
    program = tmp_path / "restic"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o700)
    with pytest.raises(PermanentError, match=match):
        restic_vault(place_in(tmp_path), program=program).prepare()


def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    """The put is tried again later; what is stored stays whole."""
    with _small_disk(tmp_path / "small") as disk:
        place = place_in(tmp_path, location=str(disk / "vault"))
        vault = restic_vault(place)
        vault.prepare()
        kept = put(place, tmp_path)
        sizes = staged(tmp_path / "large", {"manifest.json": b"{}", "blob": os.urandom(4_000_000)})
        with pytest.raises(VaultUnreachableError, match="no space left"):
            vault.put(tmp_path / "large", tags=tags_of("00000000000b"), sizes=sizes, progress=go_on)
        assert [one.id for one in vault.list()] == [kept.id]
        vault.prepare()
        vault.check(read=(1, 1), progress=go_on)


def test_no_room_for_the_cache_is_told_at_once(place: VaultPlace, tmp_path: Path) -> None:
    """The engine tries to write it again for a quarter of an hour, and says so where nobody looks."""
    put(place, tmp_path)
    program = tmp_path / "restic-without-room"
    error = "Copy: write /cache/index/1: no space left on device"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" check "*)\ntrap "exit 130" INT\n'
        f'echo "Load(<index/1>, 0, 0) returned error, retrying after 500ms: {error}" >&2\n'
        f'for second in $(seq 600); do sleep 1; done\nesac\nexec {shutil.which("restic")} "$@"\n'
    )
    program.chmod(0o700)
    with pytest.raises(VaultUnreachableError, match="no space left on device"):
        restic_vault(place, program=program).check(progress=go_on)


def test_files_that_may_not_grow_are_told_at_once(place: VaultPlace, tmp_path: Path) -> None:
    """By a limit of the account or of the file system: it tries that again for a quarter of an hour, too."""
    put(place, tmp_path)
    program = tmp_path / "restic-limited"
    limit = 'case " $* " in *" check "*) ulimit -f 0; esac'
    program.write_text(f'#!/bin/sh\n{limit}\nexec {shutil.which("restic")} "$@"\n')
    program.chmod(0o700)
    with pytest.raises(VaultUnreachableError, match="file too large"):
        restic_vault(place, program=program).check(progress=go_on)


@pytest.mark.parametrize("left", ["directories", "a key", "a key and half a config"])
def test_a_vault_that_was_made_by_half_is_made_again(tmp_path: Path, left: str) -> None:
    """The config comes last, and without it nothing was ever stored; the key of that attempt must not open the next."""
    place = place_in(tmp_path)
    restic_vault(place).prepare()
    location = Path(place.location)
    (location / "config").rename(tmp_path / "config")
    shutil.rmtree(tmp_path / "cache")  # where it would be noted that there was a vault
    if left == "directories":
        shutil.rmtree(location / "keys")
    elif left == "a key and half a config":
        (location / "config-tmp-123").write_bytes((tmp_path / "config").read_bytes()[:20])
    restic_vault(place).prepare()
    assert put(place, tmp_path).id in {one.id for one in restic_vault(place).list()}
    assert len(list((location / "keys").iterdir())) == 1


@pytest.mark.parametrize("name", ["keys/vault.password", f"keys/{'a' * 64}", "data/00/photo.jpg", "letters/one.txt"])
def test_what_is_somebody_elses_is_not_taken_away(tmp_path: Path, name: str) -> None:
    """A place that is not empty is refused, whatever its directories are called."""
    place = place_in(tmp_path)
    theirs = Path(place.location) / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(VaultMissingError, match="not empty"):
        restic_vault(place).prepare()
    assert theirs.read_text() == "mine"


@pytest.mark.parametrize("died_at", ["version", "cat"])
def test_an_engine_that_was_killed_is_tried_again(place: VaultPlace, tmp_path: Path, died_at: str) -> None:
    """By whoever needed the memory, for example: it says nothing, and that means nothing."""
    put(place, tmp_path)
    program = tmp_path / "restic-killed"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" {died_at} "*) kill -9 $$;; esac\nexec {shutil.which("restic")} "$@"\n'
    )
    program.chmod(0o700)
    with pytest.raises(TransientError):
        restic_vault(place, program=program).prepare()


def test_no_room_for_a_restore_leaves_nothing(place: VaultPlace, tmp_path: Path) -> None:
    """A part of a restore is none."""
    sizes = staged(tmp_path / "large", {"blob": os.urandom(4_000_000)})
    snapshot = restic_vault(place).put(tmp_path / "large", tags=tags_of(), sizes=sizes, progress=go_on).snapshot
    with _small_disk(tmp_path / "small") as disk:
        with pytest.raises((VaultUnreachableError, TransientError), match="no space left"):
            restic_vault(place).get(snapshot.id, ["blob"], disk / "back", progress=go_on)
        assert list(disk.iterdir()) == []


def test_nothing_secret_is_an_argument(place: VaultPlace, tmp_path: Path) -> None:
    """Everybody on the machine may read the arguments of a program."""
    program = wrapped_restic(tmp_path, before=f'echo "$@" > {tmp_path}/argv; env > {tmp_path}/env')
    put(place, tmp_path, program=program)
    arguments, environment = (tmp_path / "argv").read_text(), (tmp_path / "env").read_text()
    assert "--json" in arguments
    assert place.location not in arguments
    assert str(place.password_file) not in arguments
    assert place.password_file.read_text().strip() not in environment


def _is_found(place: VaultPlace, slice_: tuple[int, int]) -> bool:
    try:
        restic_vault(place).check(read=slice_, progress=go_on)
    except VaultDamagedError:
        return True
    return False


@contextmanager
def _small_disk(directory: Path) -> Iterator[Path]:
    """Give a file system of 3 MiB, where this machine lets us mount one."""
    directory.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip(f"a small file system cannot be mounted: {os.strerror(errno.EPERM)}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)  # noqa: S607  the system's
