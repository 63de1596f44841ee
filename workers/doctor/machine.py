"""Checks of the machine: interpreter, packages, data directory, secrets, disk, the record of the crew."""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING

from workers.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from workers.doctor.limits import Limits

_MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFacts:
    """An installed package, and what the service asks for."""

    name: str
    wanted: str
    """As in the metadata of the service."""
    installed: str | None
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryFacts:
    """The data directory, or the place where it will be made."""

    path: Path
    exists: bool
    trouble: str | None
    """Why nothing can be written there; None when something can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """The file system of the data directory."""

    path: Path
    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewFacts:
    """What `crew.json` says, and what is true."""

    path: Path
    trouble: str | None = None
    """Why it cannot be read."""
    pid: int | None = None
    """Its supervisor; None when there is no record: no crew runs."""
    is_alive: bool = False
    missing: tuple[str, ...] = ()
    """Children that are not ready."""
    restarts: Mapping[str, int] = field(default_factory=dict)


def check_python(running: tuple[int, ...], wanted: str, *, fits: bool) -> Finding:
    """Judge the interpreter by what the service asks for."""
    version = ".".join(map(str, running[:3]))
    if fits:
        return ok("python", f"{version} (wanted: {wanted})")
    return error("python", f"{version} is not {wanted}", fix="make clean && make up")


def check_packages(packages: Collection[PackageFacts]) -> Finding:
    """Judge the installed packages by what the service asks for."""
    wrong = [one for one in packages if not one.fits]
    if not wrong:
        return ok("packages", f"{len(packages)} as they are pinned")
    named = "; ".join(f"{one.name} {one.installed or 'is missing'} (wanted: {one.wanted})" for one in wrong)
    return error("packages", named, fix="python -m pip install --require-hashes -r requirements.lock")


def check_data_directory(facts: DirectoryFacts) -> Finding:
    """Judge whether the crew can write where it lives."""
    if facts.trouble is not None:
        fix = f"chown -R $(id -u) {quote(str(facts.path))}; or choose another place: nightcrew up --data-dir DIR"
        return error("data-directory", f"{facts.path}: {facts.trouble}", fix=fix)
    return ok("data-directory", f"{facts.path}" if facts.exists else f"{facts.path} will be made by `nightcrew up`")


def check_disk(facts: DiskFacts, limits: Limits) -> Finding:
    """Judge the room that is left."""
    share = facts.free_bytes / facts.size_bytes if facts.size_bytes else 0.0
    detail = f"{facts.free_bytes // _MIB:,} MiB free, {share:.1%} of the file system of {facts.path}"
    fix = f"du -xh --max-depth=2 {quote(str(facts.path))} | sort -h | tail"
    fullness = max(
        limits.low_disk_bytes / max(facts.free_bytes, 1),
        limits.low_disk_share / max(share, 1e-9),
    )
    if fullness > 4:  # noqa: PLR2004  a quarter of the limit is left
        return error("disk", detail, fix=fix)
    return warning("disk", detail, fix=fix) if fullness > 1 else ok("disk", detail)


def check_secrets(exposed: Collection[Path]) -> Finding:
    """Judge whether other users of the machine can read secrets."""
    if not exposed:
        return ok("secrets", "no other user can read them")
    named = ", ".join(map(str, exposed))
    fix = f"chmod 600 {' '.join(quote(str(path)) for path in exposed)}"
    return error("secrets", f"other users can read {named}", fix=fix)


def check_crew(facts: CrewFacts, limits: Limits, *, up: str) -> Finding:
    """Judge the record that the crew keeps of itself."""
    if facts.trouble is not None:
        return error("crew", f"{facts.path} cannot be read: {facts.trouble}", fix=f"rm {quote(str(facts.path))}; {up}")
    if facts.pid is None:
        return ok("crew", "no supervisor runs in this data directory")
    if not facts.is_alive:
        detail = f"{facts.path} is left from a crew that was killed (pid {facts.pid} is gone)"
        return warning("crew", detail, fix=up)
    if facts.missing:
        detail = f"not ready: {', '.join(facts.missing)}"
        return error("crew", detail, fix=f"tail -n 50 {_logs(facts, facts.missing)}")
    restless = {name: count for name, count in facts.restarts.items() if count > limits.restarts}
    if restless:
        named = ", ".join(f"{name} {count} times" for name, count in restless.items())
        return warning("crew", f"started again: {named}", fix=f"tail -n 50 {_logs(facts, restless)}")
    return ok("crew", f"supervisor {facts.pid}, everyone is ready")


def _logs(facts: CrewFacts, names: Collection[str]) -> str:
    logs = facts.path.parent.parent / "logs"
    return " ".join(quote(str(logs / f"{name}.log")) for name in names)
