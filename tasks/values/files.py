"""Files of values: CSV for people and their tables, JSON Lines for programs. Pure: lines in, changes out, and back.

    CSV          key,context,value,tags,version     value is JSON; tags are parted by commas; the first line names them
    JSON Lines   {"key", "context", "value", "tags", "version"} on each line

`version` is the one that was seen: a line whose value has changed since is refused. It may be left out or empty, and
so may context and tags. A text in CSV is JSON too, and so needs its quotes: `"hello"`; what is no JSON is told.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from tasks.values.changes import Change
from tasks.values.values import MOST_VALUE_BYTES, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tasks.values.changes import Action
    from tasks.values.values import DefaultValue

FileFormat = Literal["csv", "jsonl"]

FORMATS: Final = get_args(FileFormat)
COLUMNS: Final = ("key", "context", "value", "tags", "version")
_NEEDED: Final = frozenset({"key", "value"})
_LONGEST_LINE: Final = 4 * MOST_VALUE_BYTES
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that is no change."""

    number: int
    """From 1, the line of names included."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodLine:
    """A line that wants a change."""

    number: int
    change: Change


Line = BadLine | GoodLine


def format_of(name: str) -> FileFormat:
    """Say by its name what a file is.

    Raises:
        InvalidValueError: the name does not say.
    """
    for one in FORMATS:
        if name.lower().endswith(f".{one}"):
            found: FileFormat = one
            return found
    msg = f"{name} does not say what it is: end it in {' or '.join(f'.{one}' for one in FORMATS)}"
    raise InvalidValueError(msg)


def read_lines(lines: Iterable[str], file_format: FileFormat, *, action: Action) -> Iterator[Line]:
    """Read a file line by line; a line that is none is told, and the next one is read.

    Raises:
        InvalidValueError: the first line of a CSV does not name the columns.
    """
    yield from (_read_csv if file_format == "csv" else _read_json_lines)(lines, action)


def write_lines(values: Iterable[DefaultValue], file_format: FileFormat) -> Iterator[str]:
    """Give the lines of a file, each with its end; reading them back gives the same values."""
    if file_format == "jsonl":
        for value in values:
            yield json.dumps(_fields(value), ensure_ascii=False) + "\n"
        return
    written: list[str] = []
    writer = csv.writer(_Collector(written.append))  # ends lines as RFC 4180 has it, and so quotes a lone \r too
    writer.writerow(COLUMNS)
    for value in values:
        fields = _fields(value) | {
            "value": json.dumps(value.value, ensure_ascii=False),
            "tags": ",".join(value.tags),
        }
        writer.writerow([fields[name] for name in COLUMNS])
        yield from _drained(written)
    yield from _drained(written)


@dataclass(frozen=True, slots=True)
class _Collector:
    """A file for the writer of the standard library."""

    write: Callable[[str], Any]


def _drained(written: list[str]) -> list[str]:
    drained = list(written)
    written.clear()
    return drained


def _fields(value: DefaultValue) -> dict[str, Any]:
    return {
        "key": value.key,
        "context": value.context,
        "value": value.value,
        "tags": list(value.tags),
        "version": value.version,
    }


def _read_json_lines(lines: Iterable[str], action: Action) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _line(number, lambda text=line: _from_object(text), action)  # type: ignore[misc]  # bound at once


def _from_object(text: str) -> dict[str, Any]:
    found = _json(text, "the line")
    if not isinstance(found, dict):
        msg = "the line must be a JSON object"
        raise InvalidValueError(msg)
    return found


def _read_csv(lines: Iterable[str], action: Action) -> Iterator[Line]:
    rows = csv.reader(lines, strict=True)
    names = [name.strip() for name in next(rows, [])]
    if not _NEEDED <= set(names) <= set(COLUMNS) or len(names) != len(set(names)):
        msg = (
            f"the first line must name the columns, of {', '.join(COLUMNS)} at least key and value, not {names!r:.200}"
        )
        raise InvalidValueError(msg)
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(number=number, detail=f"no CSV: {error}")
            continue
        if row:
            yield _line(number, lambda row=row: _from_row(names, row), action)  # type: ignore[misc]  # bound at once


def _from_row(names: list[str], row: list[str]) -> dict[str, Any]:
    if len(row) != len(names):
        msg = f"{len(row)} columns instead of {len(names)}"
        raise InvalidValueError(msg)
    cells = dict(zip(names, row, strict=True))
    fields: dict[str, Any] = {"key": cells["key"], "context": cells.get("context", "")}
    fields["value"] = _json(cells["value"], "value")
    if tags := cells.get("tags", "").strip():
        fields["tags"] = tags.split(",")
    if version := cells.get("version", "").strip():
        fields["version"] = _json(version, "version")
    return fields


def _line(number: int, read: Callable[[], dict[str, Any]], action: Action) -> Line:
    try:
        return GoodLine(number=number, change=_change(read(), action))
    except InvalidValueError as error:
        return BadLine(number=number, detail=str(error))


def _change(fields: dict[str, Any], action: Action) -> Change:
    if unknown := fields.keys() - set(COLUMNS) - {"created_at", "updated_at", "deleted_at"}:
        msg = f"unknown names: {', '.join(sorted(map(repr, unknown)))[:_SHOWN]}"
        raise InvalidValueError(msg)
    if missing := _NEEDED - fields.keys():
        msg = f"{' and '.join(sorted(missing))} must be there"
        raise InvalidValueError(msg)
    version = fields.get("version")
    if version is not None and (type(version) is not int or version < 1):
        msg = f"version must be a whole number from 1, not {version!r:.60}"
        raise InvalidValueError(msg)
    return Change(
        action=action,
        key=fields["key"],
        context=fields.get("context", ""),
        value=fields["value"],
        tags=fields.get("tags"),
        expected_version=version if action == "update" else None,
    )


def _json(text: str, what: str) -> Any:
    if len(text) > _LONGEST_LINE:
        msg = f"{what} is longer than {_LONGEST_LINE} characters"
        raise InvalidValueError(msg)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        msg = f"{what} is too deep"
        raise InvalidValueError(msg) from None
    except ValueError as error:
        hint = f'; a text needs quotes: "{text[:20]}"' if what == "value" else ""
        msg = f"{what} is no JSON: {str(error)[:_SHOWN]}{hint}"
        raise InvalidValueError(msg) from None


def _refuse_constant(name: str) -> Any:
    msg = f"JSON has no {name}"
    raise InvalidValueError(msg)
