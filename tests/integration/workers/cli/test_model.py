"""`nightcrew model` and `nightcrew predict`, as somebody types them."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.tasks.predictions.conftest import write_uses

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.workers.cli.conftest import Command


def test_from_a_file_of_uses_to_predictions(nightcrew: Command, tmp_path: Path) -> None:
    """Train, look, check, predict, go back."""
    uses = write_uses(tmp_path / "uses.csv", seed=3)
    trained = nightcrew("model", "train", "--data", str(uses))
    assert trained["promoted"]
    assert trained["top1"] > trained["baselines"]["last_used"]["top1"]
    assert trained["held_out"]["rows"] == 300
    version = trained["model_version"]
    listed = nightcrew("model", "list")
    assert (listed["active"], [one["version"] for one in listed["models"]]) == (version, [version])
    assert nightcrew("model", "verify", version) == {"version": version, "ok": True, "problem": None}
    output = tmp_path / "out.csv"
    predicted = nightcrew("predict", "--data", str(uses), "--output", str(output))
    assert (predicted["rows"], predicted["errors"], predicted["model_version"]) == (1_500, 0, version)
    assert predicted["top1"] > 0.8
    with output.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 1_500
    assert {row["model_version"] for row in rows} == {version}
    assert nightcrew("model", "activate", version) == {"active": version}


def test_rows_that_cannot_be_used_are_answered_with_a_reason(nightcrew: Command, tmp_path: Path) -> None:
    """And the others are predicted."""
    nightcrew("model", "train", "--data", str(write_uses(tmp_path / "uses.csv", seed=3)))
    asked = tmp_path / "asked.csv"
    asked.write_text("ts,entity,context\n2026-06-01,p1,home\nnever,p1,home\n2026-06-01,,home\n2026-06-01,new,\n")
    output = tmp_path / "out.jsonl"
    predicted = nightcrew("predict", "--data", str(asked), "-o", str(output))
    assert (predicted["rows"], predicted["errors"]) == (4, 2)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["status"] for row in rows] == ["ok", "error", "error", "ok"]
    assert rows[1]["reason"].startswith("ts is no instant")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("model", "train", "--data", "nothing.csv"), 2, "there is no file nothing.csv"),
        (("predict", "--data", "nothing.csv"), 2, "there is no file nothing.csv"),
        (("predict", "--data", "pyproject.toml"), 1, "no model serves yet"),
        (("model", "activate", "nothing"), 1, "there is no model nothing"),
        (("model", "rollback"), 1, "no model served before"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    nightcrew: Command, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """With the exit code that a script looks at."""
    nightcrew(*arguments, code=code)
    assert says in nightcrew.errors
