"""How the members of the crew are ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.settings import load_settings
from workers.supervisor import members
from workers.supervisor.flower import FlowerAccess

if TYPE_CHECKING:
    from pathlib import Path

    from workers.supervisor.child import StopStep


def test_the_longest_end_fits_into_the_promise() -> None:
    """Even when nobody heeds a signal: beat, then workers and Flower together, then the broker, in less than 20 s."""
    together = max(total_s(members.WORKER_STOP), total_s(members.FLOWER_STOP))
    assert total_s(members.BEAT_STOP) + together + total_s(members.BROKER_STOP) < 19.0


def test_flower_may_have_a_user_of_its_own(tmp_path: Path) -> None:
    """Its environment then has the address of the viewer, and not that of the workers."""
    env = {"NIGHTCREW_BROKER__URL": "redis://worker:secret@h/0", "NIGHTCREW_FLOWER__BROKER_URL": "redis://viewer:x@h/0"}
    access = FlowerAccess(port=5555, user="u", password="p", is_new=False, password_file=tmp_path / "password")
    spec = members.flower_spec(load_settings(tmp_path, env), env, access)
    assert spec.env["NIGHTCREW_BROKER__URL"] == "redis://viewer:x@h/0"
    shared = members.flower_spec(load_settings(tmp_path, {}), {"NIGHTCREW_BROKER__URL": "redis://h/0"}, access)
    assert shared.env["NIGHTCREW_BROKER__URL"] == "redis://h/0"


def total_s(steps: tuple[StopStep, ...]) -> float:
    return sum(step.wait_s for step in steps)
