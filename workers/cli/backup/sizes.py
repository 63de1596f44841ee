"""Sizes as people read them."""

from typing import Final

_STEP: Final = 1_000
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(size_bytes: int) -> str:
    """Give a size in decimal units, with three digits: `889 MB`, `1.53 GB`; a loss of size has its sign."""
    sign, size = ("-" if size_bytes < 0 else ""), float(abs(size_bytes))
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{sign}{size:.0f} B" if unit == 0 else f"{sign}{size:.3g} {_UNITS[unit]}"
