"""The ACL file is made of grants, and the grants fit the scripts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import nightcrew
import tasks
from workers.redis_acl import ROLES, RoleName, acl_file, grants, password_hash, user_line

SCRIPTS = sorted([*Path(nightcrew.__path__[0]).rglob("*.lua"), *Path(tasks.__path__[0]).rglob("*.lua")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))
def test_scripts_use_granted_commands_alone(script: Path) -> None:
    """What a script calls is granted to whoever calls the script."""
    role: RoleName = "producer" if script.is_relative_to(nightcrew.__path__[0]) else "worker"
    called = {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", script.read_text(encoding="utf-8"))}
    assert called
    assert called <= {command for grant in grants(role) for command in grant.commands}


def test_the_crew_may_call_what_the_library_calls() -> None:
    """Jobs and operators use the library too."""
    library = {command for grant in grants("producer") for command in grant.commands}
    assert library <= {command for grant in grants("worker") for command in grant.commands}


def test_the_file_turns_the_default_user_off() -> None:
    """A file without that line would let in everybody, with all rights."""
    first, *rest = acl_file({"producer": password_hash("0123456789abcdef")}).splitlines()
    assert first.startswith("user default off ")
    assert [line.split()[1] for line in rest] == ["producer"]


@pytest.mark.parametrize("role", ROLES)
def test_a_line_has_a_hash_and_no_password(role: RoleName) -> None:
    """The password cannot be read out of the file."""
    line = user_line(role, role, password_hash=password_hash("0123456789abcdef"))
    assert "0123456789abcdef " not in line
    assert f" #{hashlib.sha256(b'0123456789abcdef').hexdigest()} " in line
    assert " nopass" not in line
    assert ("+@all" in line) == (role == "admin")


@pytest.mark.parametrize("password", ["", "fifteen-letters", "0123456789 abcdef", "0123456789abcdef\n", "ä" * 20])
def test_bad_passwords_are_refused(password: str) -> None:
    """Short ones, and those that a URL or a line cannot hold."""
    with pytest.raises(ValueError, match="password"):
        password_hash(password)


def test_another_database_may_be_selected_and_listened_to() -> None:
    """Only then: in database 0 nobody says SELECT, and channels carry the number."""
    commands = {command for grant in grants("worker", database=3) for command in grant.commands}
    channels = {channel for grant in grants("worker", database=3) for channel in grant.channels}
    assert "select" in commands
    assert channels == {"/3.celery.pidbox", "/3.celeryev/*", "nightcrew:cache:events"}
    assert "select" not in {command for grant in grants("worker") for command in grant.commands}
