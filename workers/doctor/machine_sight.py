"""Looks at the machine."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import TYPE_CHECKING, Final

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from workers.doctor.machine import CrewFacts, DirectoryFacts, DiskFacts, PackageFacts
from workers.settings import world_readable_secrets
from workers.supervisor.crew_file import NAME, read_record
from workers.supervisor.flower import PASSWORD_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from workers.settings import Settings

SERVICE: Final = "nightcrew-workers"
_OTHERS: Final = 0o077


def see_wanted_python() -> SpecifierSet:
    """Give the versions of Python that the service asks for."""
    try:
        return SpecifierSet(metadata(SERVICE)["Requires-Python"])
    except PackageNotFoundError:
        return SpecifierSet()


def see_packages() -> list[PackageFacts]:
    """Compare what is installed with what the service asks for."""
    try:
        wanted = [Requirement(line) for line in requires(SERVICE) or ()]
    except PackageNotFoundError:
        return [PackageFacts(name=SERVICE, wanted="any", installed=None, fits=False)]
    return [_see_package(one) for one in wanted if one.marker is None or one.marker.evaluate()]


def see_directory(path: Path) -> DirectoryFacts:
    """Try to write into a directory, or into the one in which it would be made, without leaving a trace."""
    exists = path.exists()
    trouble = None
    try:
        # Asking for the mode is not enough: the file system may be read-only, full, or not take files at all.
        with tempfile.TemporaryFile(dir=path if exists else nearest(path)) as file:
            file.write(b"nightcrew")
    except OSError as error:
        trouble = "is not a directory" if exists and not path.is_dir() else f"cannot be written: {error.strerror}"
    return DirectoryFacts(path=path, exists=exists, trouble=trouble)


def see_disk(path: Path) -> DiskFacts:
    """Measure the file system that a directory lies on, or would lie on."""
    usage = shutil.disk_usage(nearest(path))
    return DiskFacts(path=path, free_bytes=usage.free, size_bytes=usage.total)


def see_exposed_secrets(settings: Settings) -> list[Path]:
    """Find the files with secrets that other users of the machine can read."""
    # Files of the crew's own making are nobody else's business, the owner's group included.
    own = [settings.data_dir / PASSWORD_FILE, crew_file(settings)]
    exposed = {path for path in own if path.is_file() and path.stat().st_mode & _OTHERS}
    return sorted(exposed | set(world_readable_secrets(settings)))


def see_crew(path: Path) -> CrewFacts:
    """Read the record of the crew, and look whether its supervisor runs."""
    try:
        record = read_record(path)
    except NotADirectoryError:  # the finding on the data directory says it all
        return CrewFacts(path=path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return CrewFacts(path=path, trouble=f"{type(error).__name__}: {error}")
    if record is None:
        return CrewFacts(path=path)
    return CrewFacts(
        path=path,
        pid=record.pid,
        is_alive=psutil.pid_exists(record.pid),
        missing=tuple(name for name in record.restarts if name not in record.ready),
        restarts=record.restarts,
    )


def crew_file(settings: Settings) -> Path:
    """Give the place of the record of the crew."""
    return settings.data_dir / "run" / NAME


def nearest(path: Path) -> Path:
    """Give the path itself, or the first directory above it that is there."""
    return next((one for one in (path, *path.parents) if one.exists()), path)


def _see_package(wanted: Requirement) -> PackageFacts:
    try:
        installed = version(wanted.name)
    except PackageNotFoundError:
        installed = None
    fits = installed is not None and wanted.specifier.contains(installed, prereleases=True)
    return PackageFacts(name=wanted.name, wanted=str(wanted.specifier) or "any", installed=installed, fits=fits)
