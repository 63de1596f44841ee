"""An empty vault of each kind for each test, whose password is quickly tried."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from tests.fakes.vault import DirectoryVault
from tests.support.cheap_vaults import make_cheap_vault
from tests.support.restic import PASSWORD, place_in, restic_vault
from tests.support.s3 import BUCKET, KEYS, running_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tasks.backups.vaults import Vault, VaultPlace

KEEPERS: dict[str, Callable[[VaultPlace], Vault]] = {
    "directory": DirectoryVault,
    "restic": restic_vault,
    "s3": restic_vault,
}
LONG_ON_S3 = {
    "test_a_copy_is_made_once",
    "test_the_points_of_another_crew_are_left_alone",
    "test_what_is_forgotten_gives_its_space_back",
    "test_work_that_is_called_off_leaves_nothing",
}
"""Many starts of the engine, or a vault that is made; they run with `make chaos`."""


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """One kind of vault, and the place of an empty one."""

    open: Callable[[VaultPlace], Vault]
    directory: Path
    """For stages, passwords and what is fetched."""
    files: Path
    """Where vaults of this kind lie, each in a directory of its name."""
    address: str
    """What comes before the name of a vault in its location."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def place(self) -> VaultPlace:
        return self.place_of("primary")

    @property
    def vault(self) -> Vault:
        return self.open(self.place)

    @property
    def is_local(self) -> bool:
        return self.address == str(self.files)

    def place_of(self, name: str, *, password: str = PASSWORD) -> VaultPlace:
        """Give a place beside the others, where nothing is yet."""
        location = f"{self.address}/{name}"
        return place_in(self.directory, name, location=location, password=password, environment=self.environment)

    def second(self, password: str) -> VaultPlace:
        """Give an empty vault beside the first, or a place for one where it cannot be put behind the server's back."""
        if self.is_local and self.open is restic_vault:
            make_cheap_vault(self.files / "second", password)
        return self.place_of("second", password=password)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on every vault; on S3 the long ones only where there is time."""
    if "keeper" not in metafunc.fixturenames:
        return
    is_long = metafunc.function.__name__ in LONG_ON_S3
    kinds = [
        pytest.param(kind, marks=pytest.mark.chaos if kind == "s3" and is_long else ()) for kind in sorted(KEEPERS)
    ]
    metafunc.parametrize("keeper", kinds, indirect=True)


@pytest.fixture
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeper]:
    """Give an empty vault of each kind."""
    kind: str = request.param
    if kind == "s3":
        with _on_s3(tmp_path) as on_s3:
            yield on_s3
        return
    keeper = Keeper(open=KEEPERS[kind], directory=tmp_path, files=tmp_path, address=str(tmp_path))
    if kind == "restic":
        make_cheap_vault(tmp_path / "primary", PASSWORD)
    keeper.vault.prepare()
    yield keeper


@contextmanager
def _on_s3(directory: Path) -> Iterator[Keeper]:
    files = directory / "served" / BUCKET
    make_cheap_vault(files / "primary", PASSWORD)
    with running_s3(directory / "served") as server:
        address = f"s3:http://127.0.0.1:{server.port}/{BUCKET}"
        yield Keeper(open=KEEPERS["s3"], directory=directory, files=files, address=address, environment=KEYS)
