"""Vaults on servers: S3, and one that refuses deletions; what breaks on the way, and what may never pass there."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tasks.backups.vaults import VaultUnreachableError
from tasks.errors import CancelledError, PermanentError
from tests.support.canaries import Canary, find_leaks
from tests.support.restic import PASSWORD, go_on, place_in, restic_vault, staged, tags_of
from tests.support.s3 import BUCKET, KEYS, FaultyWay, ObjectServer, faulty_way, running_append_only, running_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.backups.store.restic import ResticVault
    from tasks.backups.vaults import VaultPlace
    from tests.support.s3 import Fault

CANARY = "canary-of-a-member"
FILES = {"manifest.json": f'{{"{CANARY}": 1}}'.encode(), "database/full": CANARY.encode() * 20_000 + os.urandom(50_000)}


_LONG_FAULTS = tuple(pytest.param(fault, marks=pytest.mark.long) for fault in ("busy", "refuse"))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with running_s3(tmp_path_factory.mktemp("s3") / "served") as server:
        yield server


@pytest.fixture
def way(s3: ObjectServer) -> Iterator[FaultyWay]:
    with faulty_way(s3.port) as found:
        yield found


@pytest.fixture
def place(way: FaultyWay, tmp_path: Path) -> VaultPlace:
    """Give a place on S3 that nobody has used yet."""
    location = f"s3:http://127.0.0.1:{way.port}/{BUCKET}/{tmp_path.name}"
    return place_in(tmp_path, location=location, environment=KEYS)


def put(vault: ResticVault, tmp_path: Path, point: str = "0123456789ab") -> str:
    sizes = staged(tmp_path / "stage", FILES)
    return vault.put(tmp_path / "stage", tags=tags_of(point), sizes=sizes, progress=go_on).snapshot.id


def test_a_vault_on_s3_keeps_its_promises_and_its_secrets(
    place: VaultPlace, way: FaultyWay, s3: ObjectServer, tmp_path: Path
) -> None:
    """All verbs work there, and neither the password nor the content ever passes or lies there in clear."""
    vault = restic_vault(place)
    vault.prepare()
    snapshot_id = put(vault, tmp_path)
    assert [one.id for one in vault.list()] == [snapshot_id]
    assert vault.read(snapshot_id, "manifest.json") == FILES["manifest.json"]
    vault.check(read=(1, 1), progress=go_on)
    assert vault.size().stored_bytes > 50_000
    second = place_in(tmp_path, "second", location=f"{place.location}-second", environment=KEYS)
    copies = vault.copy_to(second, [snapshot_id], progress=go_on)
    vault.forget([snapshot_id], progress=go_on)
    assert vault.list() == []
    restic_vault(second).get(copies[snapshot_id], FILES, tmp_path / "back", progress=go_on)
    assert {name: (tmp_path / "back" / name).read_bytes() for name in FILES} == FILES
    secrets = [PASSWORD, CANARY, KEYS["AWS_SECRET_ACCESS_KEY"]]
    stored = b"\n".join(path.read_bytes() for path in s3.directory.rglob("*") if path.is_file())
    texts = {"what passed": way.everything().decode("latin-1"), "what is stored": stored.decode("latin-1")}
    assert len(texts["what passed"]) > 100_000
    assert KEYS["AWS_ACCESS_KEY_ID"] in texts["what passed"], "the proxy has seen nothing"
    assert find_leaks([Canary(name=secret, secret=secret) for secret in secrets], texts) == []


def test_keys_that_are_refused_are_no_outage(place: VaultPlace) -> None:
    """To try again would not help, and no vault is made."""
    for wrong in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        vault = restic_vault(replace(place, environment={**KEYS, wrong: "wrong"}))
        with pytest.raises(PermanentError, match=r"Access Key Id|signature") as caught:
            vault.prepare()
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_vaults_that_need_different_keys_are_not_copied(tmp_path: Path) -> None:
    """The engine has room for one pair: that is said before anything is asked, without a key in it."""
    away = "s3:http://127.0.0.1:1/bucket"
    first = place_in(tmp_path, location=f"{away}/first", environment=KEYS)
    other = place_in(tmp_path, "second", location=f"{away}/second", environment={**KEYS, "AWS_ACCESS_KEY_ID": "other"})
    with pytest.raises(PermanentError, match=r"opened with different AWS_ACCESS_KEY_ID.* one pair of keys") as caught:
        restic_vault(first).copy_to(other, ["0" * 64], progress=go_on)
    assert KEYS["AWS_ACCESS_KEY_ID"] not in str(caught.value)


def test_a_place_that_does_not_answer_is_tried_again(place: VaultPlace, tmp_path: Path) -> None:
    """Nothing is concluded from it, and above all no vault is made."""
    for location in ("s3:http://127.0.0.1:1/bucket/vault", "rest:http://127.0.0.1:1/vault"):
        vault = restic_vault(replace(place, location=location))
        with pytest.raises(VaultUnreachableError, match="refused"):
            vault.prepare()
        with pytest.raises(VaultUnreachableError, match="refused"):
            vault.list()
        with pytest.raises(VaultUnreachableError, match="refused"):
            put(vault, tmp_path)


@pytest.mark.parametrize("fault", [*_LONG_FAULTS, "cut"])
def test_a_short_fault_costs_time_and_nothing_else(
    place: VaultPlace, way: FaultyWay, tmp_path: Path, fault: Fault
) -> None:
    """Each first attempt at an object fails, in the way of S3, of a line that is cut, of a server that goes away."""
    seen: set[str] = set()

    def once(method: str, path: str) -> Fault | None:
        is_first = "/data/" in path and f"{method} {path}" not in seen
        seen.add(f"{method} {path}")
        return fault if is_first else None

    vault = restic_vault(place)
    vault.prepare()
    way.fault = once
    snapshot_id = put(vault, tmp_path)
    vault.get(snapshot_id, FILES, tmp_path / "back", progress=go_on)
    assert {name: (tmp_path / "back" / name).read_bytes() for name in FILES} == FILES
    assert seen


@pytest.mark.parametrize("fault", [*_LONG_FAULTS, "cut"])
def test_a_put_that_is_given_up_in_a_fault_stores_nothing(
    place: VaultPlace, way: FaultyWay, tmp_path: Path, fault: Fault
) -> None:
    """While objects cannot be written nothing is listed; afterwards the vault is whole, and takes the point."""
    vault = restic_vault(place)
    vault.prepare()
    way.fault = lambda method, path: fault if method == "PUT" and "/data/" in path else None
    failed = 0

    def give_up(phase: str, done: int, total: int | None = None) -> None:
        nonlocal failed
        failed = sum(request.startswith("PUT") and "/data/" in request for request in way.requests)
        if failed > 1:
            msg = f"called off in {phase} at {done} of {total}"
            raise CancelledError(msg)

    sizes = staged(tmp_path / "stage", FILES)
    with pytest.raises(CancelledError):
        vault.put(tmp_path / "stage", tags=tags_of(), sizes=sizes, progress=give_up)
    way.fault = lambda _method, _path: None
    assert vault.list() == []
    snapshot_id = put(vault, tmp_path)
    assert [one.id for one in vault.list()] == [snapshot_id]
    vault.check(read=(1, 1), progress=go_on)


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["busy", "cut", "refuse"])
def test_a_put_that_fails_for_good_says_that_the_place_is_away(
    place: VaultPlace, way: FaultyWay, tmp_path: Path, fault: Fault
) -> None:
    """The engine tries for most of a minute; then the run is tried again by its policy, and nothing half is listed."""
    vault = restic_vault(place)
    vault.prepare()
    way.fault = lambda method, path: fault if method == "PUT" and "/data/" in path else None
    with pytest.raises(VaultUnreachableError):
        put(vault, tmp_path)
    way.fault = lambda _method, _path: None
    assert vault.list() == []
    put(vault, tmp_path)
    vault.check(read=(1, 1), progress=go_on)


def test_an_append_only_server_takes_points_and_gives_them(tmp_path: Path) -> None:
    """It is a vault like others but for deletions, which are refused before the server is asked."""
    with running_append_only(tmp_path / "served") as server:
        location = f"rest:http://127.0.0.1:{server.port}/vault"
        vault = restic_vault(place_in(tmp_path, location=location, is_append_only=True))
        vault.prepare()
        snapshot_id = put(vault, tmp_path)
        vault.prepare()
        vault.check(progress=go_on)
        with pytest.raises(PermanentError, match="another machine"):
            vault.forget([snapshot_id], progress=go_on)
        assert vault.read(snapshot_id, "manifest.json") == FILES["manifest.json"]


@pytest.mark.chaos
def test_a_server_that_refuses_deletions_unexpectedly_is_named(tmp_path: Path) -> None:
    """The engine tries for most of a minute, then the error says whose retention it is; everything is still there."""
    with running_append_only(tmp_path / "served") as server:
        vault = restic_vault(place_in(tmp_path, location=f"rest:http://127.0.0.1:{server.port}/vault"))
        vault.prepare()
        snapshot_id = put(vault, tmp_path)
        with pytest.raises(PermanentError, match="another machine"):
            vault.forget([snapshot_id], progress=go_on)
        assert [one.id for one in vault.list()] == [snapshot_id]
