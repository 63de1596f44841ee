"""Each page is followed to its end, command by command, on a crew that was damaged in the way it is about."""

from __future__ import annotations

import pytest

from tests.acceptance.runbooks.pages import names, read
from tests.acceptance.runbooks.scratch import DISASTERS, EXACT, KEYS, scratch


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", names())
def test_the_page_brings_the_crew_back(name: str) -> None:
    """Every block ends as it says and prints what must be seen; then the counts are what they must be."""
    page = read(name)
    with scratch() as crew:
        counted = crew.total()
        assert counted == 4 * KEYS
        DISASTERS[name](crew)
        for block in page.run:
            print(f"{name}:{block.line}\n{crew.run(block)}")  # noqa: T201  for whoever runs it with -s
        kept = counted if name in EXACT else counted // 2
        assert crew.total() == kept
        crew.count()
        assert crew.total() == kept + KEYS, "it counts on"
        assert crew.ask("backup", "verify", "--slices", "1")["state"] == "succeeded"
        points = crew.ask("backup", "list")["points"]
        assert points[0]["proven_at"] is not None, "the newest point is proven"


def test_there_is_a_disaster_for_every_page() -> None:
    """A page that nobody follows would be one that nobody can trust."""
    assert set(DISASTERS) == set(names())
