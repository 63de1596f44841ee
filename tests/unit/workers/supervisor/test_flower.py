"""What Flower is given."""

from __future__ import annotations

from pathlib import Path

from workers.supervisor.flower import ARGV, FlowerAccess, flower_environment

ACCESS = FlowerAccess(port=5555, user="nightcrew", password="canary", is_new=True, password_file=Path("/d/p"))


def test_the_password_is_in_the_environment_only() -> None:
    """Arguments and representations can be read by others."""
    assert flower_environment(ACCESS, {})["FLOWER_BASIC_AUTH"] == "nightcrew:canary"
    assert "canary" not in " ".join(ARGV) + repr(ACCESS) + ACCESS.url


def test_options_of_another_flower_do_not_slip_in() -> None:
    """A variable meant for another Flower could open ours to everyone."""
    env = flower_environment(
        ACCESS, {"FLOWER_UNAUTHENTICATED_API": "true", "FLOWER_ADDRESS": "192.0.2.1", "HOME": "/h"}
    )
    assert "FLOWER_UNAUTHENTICATED_API" not in env
    assert env["FLOWER_ADDRESS"] == "127.0.0.1"
    assert env["HOME"] == "/h"
