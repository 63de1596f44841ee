"""The configuration file of the embedded broker."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from workers.supervisor.broker_configuration import quote, render_configuration


@given(st.binary())
def test_quoting_keeps_every_byte(value: bytes) -> None:
    r"""What is written is plain ASCII without line ends, and reading its \xHH gives the value again."""
    written = quote(value)
    assert written.isascii()
    assert b"\n" not in written
    assert written[1:-1].decode("ascii").encode("latin-1").decode("unicode_escape").encode("latin-1") == value


def test_a_path_with_spaces_and_quotes_stays_one_argument() -> None:
    """An odd directory cannot smuggle a second argument into the line."""
    directory = Path('/a "b" c')
    text = render_configuration(directory=directory, socket=Path("/s/broker.sock"), appendfsync="always").decode()
    line = next(line for line in text.splitlines() if line.startswith("dir "))
    assert line == r'dir "/a \x22b\x22 c"'


def test_a_path_that_is_not_utf8_is_kept() -> None:
    """The bytes of a path reach the server as they are."""
    path = Path(os.fsdecode(b"/d\xff"))
    assert rb'dir "/d\xff"' in render_configuration(directory=path, socket=Path("/s"), appendfsync="always")


def test_nothing_is_evicted_and_everything_is_written_down() -> None:
    """The options that make a Redis a broker are there."""
    text = render_configuration(directory=Path("/d"), socket=Path("/s"), appendfsync="everysec").decode()
    options = dict(shlex.split(line) for line in text.splitlines())
    assert options["maxmemory-policy"] == "noeviction"
    assert options["appendonly"] == "yes"
    assert options["appendfsync"] == "everysec"
    assert options["save"] == ""
    assert options["port"] == "0"
    assert options["unixsocketperm"] == "700"
