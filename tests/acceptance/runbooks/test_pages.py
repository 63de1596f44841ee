"""The pages can be followed: every command exists, every step says what must be seen, every page is found."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.acceptance.runbooks import pages
from tests.acceptance.runbooks.pages import INDEX, RUNBOOKS, UnreadablePageError, names, read
from workers.cli.verbs import installed_verbs, load_verb

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def test_the_index_knows_every_page() -> None:
    """And no page that is not there."""
    linked = set(re.findall(r"\]\(([a-z-]+\.md)\)", (RUNBOOKS / INDEX).read_text(encoding="utf-8")))
    assert linked == set(names())
    assert len(linked) == 7


@pytest.mark.parametrize("name", [*names(), INDEX])
def test_every_block_can_be_read_and_is_shell(name: str) -> None:
    """Bash reads each of them without an error; what is for a person says why."""
    for block in read(name).blocks:
        checked = subprocess.run(["/bin/bash", "-n"], input=block.commands, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), f"{name}:{block.line}"
        assert block.commands.strip()


@pytest.mark.parametrize("name", names())
def test_every_step_says_what_must_be_seen(name: str) -> None:
    """A block that is run has a text that must be in what it prints; the first one may only stop the crew."""
    page = read(name)
    assert page.run
    unseen = [block.line for block in page.run if not block.expected and block.commands.strip() != "$STOP"]
    assert unseen == []
    assert "**When**" in page.text
    assert "**Lost at worst**" in page.text


@pytest.mark.parametrize("name", names())
def test_every_command_and_option_exists(name: str) -> None:
    """As the command itself knows them."""
    for block in read(name).run:
        for line in block.commands.splitlines():
            match = re.search(r"\bnightcrew ([a-z]+)(?: ([a-z]+))?", line)
            if match is None or "$(" in line:
                continue
            assert match[1] in installed_verbs(), line
            command = load_verb(match[1])
            inner = getattr(command, "commands", {})
            if inner:
                command = inner[str(match[2])]
            known = {option for parameter in command.params for option in parameter.opts}
            assert set(_OPTION.findall(line)) <= known, line


@pytest.mark.parametrize(
    "text",
    ["```python\nx\n```", "```sh by hand\nx\n```", "```sh\nx", "```expect\nx\n```", "```sh exit\nx\n```"],
    ids=["unknown", "without a reason", "without an end", "nothing before", "without a code"],
)
def test_a_block_that_nobody_knows_is_refused(text: str) -> None:
    """It would be left out in silence."""
    with pytest.raises(UnreadablePageError):
        list(pages._blocks("page", text))
