"""Times on the command line are read as they are meant, or refused with an example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from workers.cli.output import CliError, ExitCode
from workers.cli.times import parse_duration, parse_instant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        (" 3d ", timedelta(days=3)),
        ("2w", timedelta(weeks=2)),
        ("1d12h", timedelta(hours=36)),
    ],
)
def test_durations(written: str, meant: timedelta) -> None:
    """A number and a unit, once or more."""
    assert parse_duration(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-12-24", datetime(2026, 12, 24, tzinfo=UTC)),
        ("2026-12-24T06:00", datetime(2026, 12, 24, 6, tzinfo=UTC)),
        ("2026-12-24T07:00+01:00", datetime(2026, 12, 24, 6, tzinfo=UTC)),
        ("2026-12-24T06:00Z", datetime(2026, 12, 24, 6, tzinfo=UTC)),
    ],
)
def test_instants(written: str, meant: datetime) -> None:
    """Without a zone it is UTC."""
    assert parse_instant(written) == meant


@pytest.mark.parametrize("written", ["", "3", "h", "-3h", "3y", "3h later", "1.5h", "9999999d"])
def test_what_is_no_duration(written: str) -> None:
    """The hint shows the form, and the exit code is that of wrong arguments."""
    with pytest.raises(CliError, match="is no duration") as caught:
        parse_duration(written)
    assert ("1d12h" in caught.value.hint, caught.value.code) == (True, ExitCode.USAGE)


@pytest.mark.parametrize("written", ["", "tomorrow", "2026-13-01", "24.12.2026", "0001-01-01T00:00+14:00"])
def test_what_is_no_instant(written: str) -> None:
    """The hint shows the form, and the exit code is that of wrong arguments."""
    with pytest.raises(CliError, match="is no instant") as caught:
        parse_instant(written)
    assert ("2026-12-24T06:00" in caught.value.hint, caught.value.code) == (True, ExitCode.USAGE)
