"""What a backup costs: processor seconds, children included, and what is stored for it."""

from __future__ import annotations

import mmap
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

_MOST_TOUCHED_BYTES: Final = 4 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One run of one way of doing it."""

    cpu_s: float
    """Of this process and of all that it started; what other processes do inflates it less than the time."""
    wall_s: float
    stored_bytes: int


def cost_of(work: Callable[[], T], stored: Path) -> tuple[Cost, T]:
    """Do it, and see by how much a directory or a file grew."""
    _touch_memory()
    stored_before, cpu_before, began = bytes_in(stored), _cpu_s(), time.perf_counter()
    result = work()
    wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_before
    return Cost(cpu_s=cpu_s, wall_s=wall_s, stored_bytes=bytes_in(stored) - stored_before), result


def bytes_in(place: Path) -> int:
    """Sum up the lengths of all files at a place, which need not be there."""
    files = [place, *place.rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


def _touch_memory() -> None:
    """Have the memory that is about to be used, for files too.

    A virtual machine gets it from its host page by page, when it is first touched, and may have given it back since.
    That costs some seconds of CPU for each gigabyte, and would be charged to whoever comes first.
    """
    size = min(_MOST_TOUCHED_BYTES, psutil.virtual_memory().available // 2)
    with mmap.mmap(-1, size) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
