"""Times as people write them on a command line. An instant without a zone is UTC, as everything here."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from workers.cli.output import CliError, ExitCode

_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_PART: Final = re.compile(r"(\d{1,6})([mhdw])")
_DURATION: Final = re.compile(rf"({_PART.pattern})+")


def parse_duration(written: str) -> timedelta:
    """Read a duration such as `90m`, `12h`, `3d`, `2w` or `1d12h`.

    Raises:
        CliError: it is none.
    """
    if not _DURATION.fullmatch(written.strip()):
        msg = f"{written!r} is no duration"
        raise CliError(msg, hint="such as 90m, 12h, 3d, 2w or 1d12h", code=ExitCode.USAGE)
    return sum((int(number) * _UNITS[unit] for number, unit in _PART.findall(written)), timedelta())


def parse_instant(written: str) -> datetime:
    """Read an instant in ISO 8601, such as `2026-12-24` or `2026-12-24T06:00`.

    Raises:
        CliError: it is none.
    """
    try:
        read = datetime.fromisoformat(written.strip())
        return (read.replace(tzinfo=UTC) if read.tzinfo is None else read).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = f"{written!r} is no instant"
        hint = "in UTC, such as 2026-12-24, 2026-12-24T06:00 or 2026-12-24T07:00+01:00"
        raise CliError(msg, hint=hint, code=ExitCode.USAGE) from error
