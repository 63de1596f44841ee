"""Vaults of restic for tests: places, stages, a program that goes wrong on purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.backups.staging import Limits
from tasks.backups.store.restic import ResticVault
from tasks.backups.vaults import Tags, VaultPlace

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD = "canary-of-the-vault-password"
_ID_LENGTH = 64


def place_in(
    directory: Path,
    name: str = "primary",
    *,
    location: str | None = None,
    password: str = PASSWORD,
    environment: Mapping[str, str] | None = None,
    is_append_only: bool = False,
) -> VaultPlace:
    """Give a place with a password file of its own; by default a directory that is not there yet."""
    directory.mkdir(parents=True, exist_ok=True)
    password_file = directory / f"{name}.password"
    password_file.write_text(f"{password}\n")
    password_file.chmod(0o600)
    return VaultPlace(
        name=name,
        location=location or str(directory / name),
        password_file=password_file,
        environment=environment or {},
        is_append_only=is_append_only,
    )


def restic_vault(
    place: VaultPlace, *, program: str | Path = "restic", limits: Limits | None = None, patience_s: float = 600
) -> ResticVault:
    """Open a vault with a cache beside its password file; it steps back for nobody, so that tests are quick."""
    cache = place.password_file.parent / "cache" / place.name
    chosen = limits or Limits(nice=0, idle_io=False)
    return ResticVault(place, program=str(program), cache=cache, limits=chosen, patience_s=patience_s)


def tags_of(point: str = "0123456789ab", *, sequence: int = 0) -> Tags:
    kind = "incremental" if sequence else "full"
    return Tags(point=point, run=f"run-{point}", profile="default", kind=kind, chain="0123456789ab", sequence=sequence)


def staged(directory: Path, files: Mapping[str, bytes]) -> dict[str, int]:
    """Write files and give their sizes by name."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {name: len(content) for name, content in files.items()}


def go_on(phase: str, done: int, total: int | None = None) -> None:
    """Hear of progress, and do nothing."""


def wrapped_restic(directory: Path, before: str = "", after: str = "") -> Path:
    """Write a program that is restic, with lines of shell before and after each `backup` of it."""
    program = directory / "restic-wrapped"
    real = shutil.which("restic")
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" backup "*)\n{before}\n{real} "$@"\ncode=$?\n{after}\nexit $code\nesac\n'
        f'exec {real} "$@"\n'
    )
    program.chmod(0o700)
    return program


def bare_restic(place: VaultPlace, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run restic as a person would, and let it end as it likes."""
    argv = [shutil.which("restic") or "", *arguments]
    return subprocess.run(argv, env=environment_of(place), cwd=cwd, capture_output=True, text=True, check=False)


def environment_of(place: VaultPlace) -> dict[str, str]:
    """Give what a person would set."""
    return {
        **os.environ,
        **place.environment,
        "RESTIC_REPOSITORY": place.location,
        "RESTIC_PASSWORD_FILE": str(place.password_file),
        "RESTIC_CACHE_DIR": str(place.password_file.parent / "person"),
    }


def locks_of(place: VaultPlace) -> list[Path]:
    """Find the locks of a local vault; one that is being written still has a longer name."""
    return [path for path in (Path(place.location) / "locks").iterdir() if len(path.name) == _ID_LENGTH]


def pack_of(place: VaultPlace) -> Path:
    """Find the largest pack of a local vault, and make it writable: the engine makes them read-only."""
    packs = [path for path in (Path(place.location) / "data").rglob("*") if path.is_file()]
    largest = max(packs, key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    return largest


def flip_byte(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
