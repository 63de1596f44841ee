"""What stands in the logs, and what never does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from workers.observability import _passwords, masking

_PROGRAM = """
import logging, structlog, warnings
from workers.observability import configure_logging
configure_logging(level="info", format_name={format!r}, passwords=["hunter22"])
structlog.get_logger("ours").info("usage.drained", entries=3)
structlog.get_logger("ours").debug("usage.seen")
logging.getLogger("theirs").warning("gone: %s", "redis://:s3cret@h/0")
warnings.warn("hunter22 is out", stacklevel=1)
try:
    raise ValueError("postgresql://app:s3cret@h/db")
except ValueError:
    structlog.get_logger("ours").exception("job.raised", password="hunter22")
"""


def lines(form: str) -> list[str]:
    program = _PROGRAM.format(format=form)
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == ""
    return finished.stderr.splitlines()


def test_each_line_is_one_object_with_the_same_fields() -> None:
    """Ours and those of libraries, warnings and tracebacks included."""
    found = [json.loads(line) for line in lines("json")]
    assert [one["logger"] for one in found] == ["ours", "theirs", "py.warnings", "ours"]
    always = ["timestamp", "level", "event", "service", "version", "host", "pid"]
    assert [list(one)[:7] for one in found] == [always] * 4
    assert (found[0]["event"], found[0]["entries"], found[0]["timestamp"][-1]) == ("usage.drained", 3, "Z")
    assert "ValueError" in found[3]["exception"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_passwords_are_masked_wherever_they_stand(form: str) -> None:
    """In addresses of any kind, and by themselves when they are known."""
    text = "\n".join(lines(form))
    assert "s3cret" not in text
    assert "hunter22" not in text
    assert "usage.drained" in text


def test_a_password_is_known_as_it_is_written_and_as_it_is_meant() -> None:
    """An address writes special characters as %XX."""
    passwords = _passwords(["redis://:p%40ss@h/0", "unix:///s.sock?db=0", "redis+socket://u:other@/s.sock"])
    assert passwords == {"p%40ss", "p@ss", "other"}


def test_a_short_password_makes_no_holes_into_words() -> None:
    """`a` as a password would take every a out of the logs."""
    assert masking(["a"])(None, "info", "a drain") == "a drain"
