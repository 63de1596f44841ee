"""What importing the library costs, and what it shows."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import nightcrew
from nightcrew.client import Nightcrew
from nightcrew.testing import AnyNightcrew, RecordingNightcrew, RecordingUsageCounter
from nightcrew.usage import UsageCounter

_HEAVY = "('celery', 'kombu', 'redis', 'sqlalchemy', 'pydantic')"


@pytest.mark.parametrize(
    "code",
    [
        "import nightcrew",
        "import nightcrew; c = nightcrew.Nightcrew('redis://127.0.0.1:1/0'); c.usage.pending; c.close()",
        "import nightcrew.testing, nightcrew.messages, nightcrew.errors, nightcrew.wire",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    """Neither Celery nor redis is loaded before something is sent."""
    check = f"import sys; print([name for name in {_HEAVY} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, check=True, text=True)
    assert told.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    """`__all__` and the lazy loading agree."""
    assert {name: getattr(nightcrew, name) is not None for name in nightcrew.__all__} == dict.fromkeys(
        nightcrew.__all__, True
    )
    assert dir(nightcrew) == sorted(nightcrew.__all__)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        nightcrew.nothing_of_ours  # noqa: B018


@pytest.mark.parametrize(
    ("real", "recording"), [(Nightcrew, RecordingNightcrew), (UsageCounter, RecordingUsageCounter)]
)
def test_the_recording_client_has_the_same_surface(real: type, recording: type) -> None:
    """Each public method of the real one is there, with the same parameters."""
    public = {name for name in vars(real) if not name.startswith("_") and name != "after_fork_in_child"}
    for name in public:
        mine, its = getattr(real, name), getattr(recording, name)
        if callable(mine):
            assert inspect.signature(mine) == inspect.signature(its), name


def accepts_both(real: Nightcrew, recording: RecordingNightcrew) -> list[AnyNightcrew]:
    """Checked by mypy alone."""
    return [real, recording]
