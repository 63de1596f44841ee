"""`nightcrew values`: what a person types, what comes back, and what is told when it is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert

from tasks.transactions import begin_write
from tasks.usage.tables import UsageCount

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.integration.workers.cli.conftest import Command


def test_a_value_is_set_read_and_deleted(nightcrew: Command) -> None:
    """With its versions, and the seen one decides."""
    assert nightcrew("values", "set", "mail.greeting", '"Hello"', "--tag", "mail")["version"] == 1
    assert nightcrew.text("values", "get", "mail.greeting") == '"Hello"\n'
    assert nightcrew("values", "set", "mail.greeting", "Hi", "--text", "--if-version", "1")["version"] == 2
    nightcrew("values", "set", "mail.greeting", "3", "--if-version", "1", code=1)
    assert "at version 2 and not at 1" in nightcrew.errors
    got = nightcrew("values", "get", "mail.greeting")
    assert (got["value"], got["tags"], got["version"]) == ("Hi", ["mail"], 2)
    assert nightcrew("values", "delete", "mail.greeting")["deleted_at"]
    nightcrew("values", "get", "mail.greeting", code=1)
    assert "there is no default value mail.greeting" in nightcrew.errors
    versions = nightcrew("values", "history", "mail.greeting")["versions"]
    assert [(one["version"], one["action"]) for one in versions] == [(3, "delete"), (2, "update"), (1, "create")]
    assert nightcrew("values", "purge", "--older-than", "1d") == {"purged": 0}


def test_a_value_comes_with_its_counts(nightcrew: Command, sqlite_engine: Engine) -> None:
    """Those of its own key and context, since the last reset; nothing was counted of a new one."""
    with begin_write(sqlite_engine) as connection:
        for context, total in (("", 5), ("fr", 7)):
            row = {"key": "k", "context": context, "total": total, "accepted": 2, "rejected": 1}
            connection.execute(insert(UsageCount).values(row))
    nightcrew("values", "set", "k", "1", "--context", "fr")
    nightcrew("values", "set", "new", "1")
    assert nightcrew("values", "get", "k", "--context", "fr")["usage"] == {"total": 7, "accepted": 2, "rejected": 1}
    listed = nightcrew("values", "list")["values"]
    assert [(one["key"], one["usage"]["total"]) for one in listed] == [("k", 7), ("new", 0)]


def test_a_list_goes_page_by_page(nightcrew: Command) -> None:
    """Each page ends with the mark for the next."""
    for number in range(5):
        nightcrew("values", "set", f"k{number}", str(number))
    keys: list[str] = []
    after: list[str] = []
    while True:
        page = nightcrew("values", "list", "--sort", "version", "--desc", "--limit", "2", *after)
        keys += [value["key"] for value in page["values"]]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert keys == ["k4", "k3", "k2", "k1", "k0"]
    assert "more: add --after" in nightcrew.text("values", "list", "--limit", "2")


@pytest.mark.parametrize("name", ["values.csv", "values.jsonl"])
def test_a_file_is_taken_and_given_back(nightcrew: Command, tmp_path: Path, name: str) -> None:
    """What was exported changes nothing when it is imported, and makes everything again where nothing is."""
    for number, value in enumerate(['"a, \\"b\\""', "null", '{"x": [1, 2]}', "1.5"]):
        nightcrew("values", "set", f"k{number}", value, "--context", "fr", "--tag", "t")
    file = tmp_path / name
    assert nightcrew("values", "export", str(file)) == {"file": str(file), "values": 4}
    assert file.stat().st_mode & 0o777 == 0o600
    before = nightcrew("values", "list")["values"]
    again = nightcrew("values", "import", str(file))
    assert (again["lines"], again["unchanged"], again["refused"]) == (4, 4, 0)
    for value in before:
        nightcrew("values", "delete", value["key"], "--context", "fr")
    assert nightcrew("values", "import", str(file), "--dry-run")["made"] == 0
    assert nightcrew("values", "import", str(file))["made"] == 4
    after = nightcrew("values", "list")["values"]
    facts = ("key", "context", "value", "tags")
    assert [[one[fact] for fact in facts] for one in after] == [[one[fact] for fact in facts] for one in before]


def test_lines_that_are_refused_stop_no_other_one(nightcrew: Command, tmp_path: Path) -> None:
    """They are told by their number, and the exit code says so."""
    nightcrew("values", "set", "there", "1")
    file = tmp_path / "values.jsonl"
    lines = [{"key": "new", "value": 1}, {"key": "there", "value": 2}, {"key": ""}]
    file.write_text("\n".join([*map(json.dumps, lines), "nonsense"]), encoding="utf-8")
    tally = nightcrew("values", "import", str(file), "--mode", "create", code=1)
    assert (tally["lines"], tally["made"], tally["refused"]) == (4, 1, 3)
    assert [one["line"] for one in tally["errors"]] == [3, 4, 2]
    shown = nightcrew.text("values", "import", str(file), "--mode", "create", code=1)
    assert "4 lines: 0 made" in shown
    assert "exists: there is one already" in shown


def test_a_large_file_is_taken_in_batches(nightcrew: Command, tmp_path: Path) -> None:
    """Two thousand lines, more than a transaction takes; a key that comes twice is changed twice."""
    file = tmp_path / "values.jsonl"
    lines = [json.dumps({"key": f"k{number % 1_990}", "value": number}) for number in range(2_000)]
    file.write_text("\n".join(lines), encoding="utf-8")
    tally = nightcrew("values", "import", str(file))
    assert (tally["lines"], tally["made"], tally["changed"], tally["refused"]) == (2_000, 1_990, 10, 0)
    assert nightcrew("values", "get", "k9")["value"] == 1_999


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("set", "k", "hello"), 2, "a text needs quotes"),
        (("set", "", "1"), 1, "key must not be empty"),
        (("set", "k", "1", "--tag", "a,b"), 1, "no comma"),
        (("list", "--sort", "color"), 2, "one of key, created_at"),
        (("list", "--after", "x"), 1, "no mark of a page"),
        (("list", "--updated-since", "soon"), 2, "is no instant"),
        (("import", "none.csv"), 2, "cannot be read"),
        (("import", "pyproject.toml"), 1, "end it in .csv or .jsonl"),
        (("export", "/nowhere/values.csv"), 1, "cannot be written"),
        (("delete", "none"), 1, "there is none"),
    ],
)
def test_mistakes_are_told_in_a_line(nightcrew: Command, arguments: tuple[str, ...], code: int, said: str) -> None:
    """With what to do about it."""
    nightcrew("values", *arguments, code=code)
    assert said in nightcrew.errors
    assert "Traceback" not in nightcrew.errors


def test_a_file_in_another_encoding_is_told(nightcrew: Command, tmp_path: Path) -> None:
    """Nobody wants half of it as question marks."""
    file = tmp_path / "values.csv"
    file.write_bytes('key,value\nk,"""caf\xe9"""\n'.encode("latin-1"))
    nightcrew("values", "import", str(file), code=1)
    assert "is not UTF-8" in nightcrew.errors
