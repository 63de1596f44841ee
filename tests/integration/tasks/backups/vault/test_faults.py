"""What breaks on the way to a server while a vault is pruned, copied or checked: a failure, and no damage."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tasks.backups.staging import Limits
from tasks.backups.vaults import VaultUnreachableError
from tasks.errors import CancelledError
from tests.support.cheap_vaults import make_cheap_vault
from tests.support.restic import PASSWORD, go_on, place_in, restic_vault, staged, tags_of
from tests.support.s3 import BUCKET, KEYS, faulty_way, running_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tasks.backups.staging import Progress
    from tasks.backups.vaults import VaultPlace
    from tests.support.s3 import Fault, FaultyWay

POINTS = 3
FILE_BYTES = 400_000
SLOW = Limits(nice=0, idle_io=False, upload_kib_s=200, download_kib_s=200)
SHORT_S = 2.0
"""A patience that no test waits long for."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Two vaults on a server, three points in the first, and the way there."""

    way: FaultyWay
    first: VaultPlace
    second: VaultPlace
    directory: Path
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By id of the snapshot."""

    def put(self, point: str) -> str:
        """Store a point that shares nothing but one file with the others."""
        files = {"own": os.urandom(FILE_BYTES), "shared": b"shared" * 1_000}
        sizes = staged(self.directory / point, files)
        vault = restic_vault(self.first)
        stored = vault.put(self.directory / point, tags=tags_of(point), sizes=sizes, progress=go_on)
        self.files[stored.snapshot.id] = files
        return stored.snapshot.id

    def breaks(self, fault: Fault) -> None:
        """Let one object of data pass, and no other: what is under way comes to its half."""
        passed: dict[str, int] = {}

        def decide(_method: str, path: str) -> Fault | None:
            if "/data/" not in path or not path.partition("?")[0].rpartition("/")[2]:
                return None
            number = passed.setdefault(path, len(passed))
            return fault if number else None

        self.way.fault = decide

    def mend(self) -> None:
        self.way.fault = lambda _method, _path: None
        self.way.is_over.set()

    def is_whole(self, place: VaultPlace, names: dict[str, str]) -> None:
        """See that a vault checks clean, and that all it lists comes back; `names` are ids of originals by its own."""
        vault = restic_vault(place)
        vault.check(read=(1, 1), progress=go_on)
        for one in vault.list():
            to = self.directory / f"back-{place.name}-{one.id}"
            wanted = self.files[names[one.id]]
            vault.get(one.id, wanted, to, progress=go_on)
            assert {name: (to / name).read_bytes() for name in wanted} == wanted


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    for name in ("primary", "second"):
        make_cheap_vault(tmp_path / "served" / BUCKET / name, PASSWORD)
    with running_s3(tmp_path / "served") as server, faulty_way(server.port) as way:
        address = f"s3:http://127.0.0.1:{way.port}/{BUCKET}"
        first, second = (
            place_in(tmp_path, name, location=f"{address}/{name}", environment=KEYS) for name in ("primary", "second")
        )
        made = Scene(way=way, first=first, second=second, directory=tmp_path)
        for number in range(POINTS):
            made.put(f"{number:012x}")
        yield made


def prune(scene: Scene, progress: Progress = go_on, patience_s: float = 600, limits: Limits | None = None) -> None:
    vault = restic_vault(scene.first, patience_s=patience_s, limits=limits)
    vault.forget([next(iter(scene.files))], progress=progress)


def copy(scene: Scene, progress: Progress = go_on, patience_s: float = 600, limits: Limits | None = None) -> None:
    vault = restic_vault(scene.first, patience_s=patience_s, limits=limits)
    kept = {one.id for one in vault.list()}
    vault.copy_to(scene.second, sorted(kept), progress=progress)


def check(scene: Scene, progress: Progress = go_on, patience_s: float = 600, limits: Limits | None = None) -> None:
    restic_vault(scene.first, patience_s=patience_s, limits=limits).check(read=(1, 1), progress=progress)


def end_well(scene: Scene, verb: Callable[[Scene], None]) -> None:
    """Do it again on a way that is whole, and look at both vaults and at all that has passed."""
    scene.mend()
    second = restic_vault(scene.second)
    for place in (scene.first, scene.second):
        restic_vault(place).prepare()
    by_tag = {one.tags.point: one.id for one in restic_vault(scene.first).list()}
    half = {one.tags.point for one in second.list()}
    assert half <= by_tag.keys()
    scene.is_whole(scene.second, {one.id: by_tag[one.tags.point] for one in second.list()})
    verb(scene)
    scene.is_whole(scene.first, {one.id: one.id for one in restic_vault(scene.first).list()})
    if verb is copy:
        assert {one.tags.point for one in second.list()} == by_tag.keys()
        scene.is_whole(scene.second, {one.id: by_tag[one.tags.point] for one in second.list()})
    assert KEYS["AWS_ACCESS_KEY_ID"].encode() in scene.way.everything(), "the proxy has seen nothing"
    for secret in (PASSWORD, KEYS["AWS_SECRET_ACCESS_KEY"]):
        assert secret.encode() not in scene.way.everything()


@pytest.mark.chaos
@pytest.mark.parametrize("verb", [prune, copy, check])
def test_a_server_that_goes_silent_is_given_up(scene: Scene, verb: Callable[..., None]) -> None:
    """The engine itself would wait for ever, with the lease of the vault in its hand."""
    scene.breaks("hang")
    with pytest.raises(VaultUnreachableError, match=r"has gone silent.*see whether its server answers"):
        verb(scene, patience_s=SHORT_S)
    end_well(scene, verb)


@pytest.mark.chaos
@pytest.mark.parametrize(("verb", "fault"), [(prune, "busy"), (copy, "cut")])
def test_a_way_that_breaks_in_the_middle_is_no_damage(scene: Scene, verb: Callable[..., None], fault: Fault) -> None:
    """The engine tries for most of a minute or longer; the run fails with what the way did, and can be tried again."""
    scene.breaks(fault)
    with pytest.raises(VaultUnreachableError, match=r"reduce your request rate|EOF|connection reset|closed|giv"):
        verb(scene)
    end_well(scene, verb)


@pytest.mark.chaos
@pytest.mark.parametrize("verb", [copy, check])
def test_what_is_called_off_in_the_middle_ends_soon(scene: Scene, verb: Callable[..., None]) -> None:
    """With nothing half listed, and nothing in the way of the next."""
    scene.way.requests.clear()

    def call_off(phase: str, done: int, total: int | None = None) -> None:
        if any("/data/" in request for request in scene.way.requests):
            msg = f"called off in {phase} at {done} of {total}"
            raise CancelledError(msg)

    began_s = time.monotonic()
    with pytest.raises(CancelledError):
        verb(scene, call_off, limits=SLOW)
    assert time.monotonic() - began_s < 15
    end_well(scene, verb)
