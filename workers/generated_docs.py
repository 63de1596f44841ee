"""Writes what in `ops/` is made of the code: the settings, and the users of the broker.

`python -m workers.generated_docs` writes the files, `--check` says whether they are fresh and writes nothing.
"""

from __future__ import annotations

import json
import sys
import textwrap
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workers.redis_acl import ROLES, UNKNOWN_HASH, acl_file, grants
from workers.settings.fields import section_summaries, setting_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.settings.fields import SettingField

_OPS: Final = Path(__file__).parent.parent / "ops"
_COMMAND: Final = "python -m workers.generated_docs"

_SETTINGS_INTRODUCTION: Final = f"""\
# Settings

Written by `{_COMMAND}` from `workers/settings/tree.py`; change it there.

A value is taken from the first of these that has one:

1. the environment: `NIGHTCREW_`, the section, two underscores, the name: `NIGHTCREW_USAGE__PARTITIONS=4`
2. the secrets directory `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`), a file for each value, named like the
   variable in small letters: `nightcrew_broker__url`
3. `nightcrew.toml` in the data directory: see `nightcrew.example.toml`
4. the default

The data directory itself is `--data-dir DIR`, else `NIGHTCREW_DATA_DIR`, else `.nightcrew` in the current directory.

A name that does not exist is an error wherever it stands, and so is a value out of bounds. `nightcrew config validate`
checks all of it; `nightcrew config show --origin` says where each value comes from, with passwords masked. A file with
a password in it needs mode 600; `nightcrew doctor` looks.
"""

_EXAMPLE_INTRODUCTION: Final = f"""\
# Copy to <data directory>/nightcrew.toml (mode 600 if it gets a password) and take the # off what you change.
# Written by `{_COMMAND}`; the values are the defaults.
"""

_ACL_INTRODUCTION: Final = f"""\
# What the users of the broker may do

Written by `{_COMMAND}` from `workers/redis_acl.py`; change it there. `security.md` says how to use it.

Each row is a selector: its commands, on its keys and channels. What stands in no row is refused. `admin` may do
everything, and the user `default` nothing.
"""


def generated_documents() -> dict[Path, str]:
    """Give the text of each generated file, by its path."""
    return {
        _OPS / "settings.md": settings_page(),
        _OPS / "nightcrew.example.toml": example_file(),
        _OPS / "redis-acl.md": acl_page(),
        _OPS / "redis.acl.example": acl_file(dict.fromkeys(ROLES, UNKNOWN_HASH)),
    }


def settings_page() -> str:
    """Describe every setting, a table for each section."""
    pages = [_SETTINGS_INTRODUCTION]
    for section, fields in _by_section():
        rows = "".join(
            f"| `{field.name.partition('.')[2]}` | {field.accepts} | {_default(field)} | {field.description} |\n"
            for field in fields
        )
        heading = f"## {section}\n\n{section_summaries()[section]}\n\n"
        pages.append(f"{heading}| name | takes | default | what it is |\n|---|---|---|---|\n{rows}")
    return "\n".join(pages)


def example_file() -> str:
    """Give a file that sets nothing: every setting with its default, commented out."""
    parts = [_EXAMPLE_INTRODUCTION]
    for section, fields in _by_section():
        lines = [f"# {section_summaries()[section]}", f"[{section}]"]
        for field in fields:
            lines += textwrap.wrap(field.description, width=110, initial_indent="# ", subsequent_indent="# ")
            lines += [f"# Takes: {field.accepts.replace('`', '')}"]
            lines += [f"# {field.name.partition('.')[2]} = {_toml(field)}", ""]
        parts.append("\n".join(lines))
    return "\n".join(parts).rstrip() + "\n"


def acl_page() -> str:
    """Say what each user of the broker may do, a table for each."""
    pages = [_ACL_INTRODUCTION]
    for role in ROLES:
        if not (granted := grants(role)):
            continue
        rows = "".join(
            f"| {one.purpose} | {_code(one.commands)} | {_code(one.reads)} | {_code(one.writes)} "
            f"| {_code(one.channels)} |\n"
            for one in granted
        )
        heading = "| to | commands | keys read | keys written | channels |\n|---|---|---|---|---|\n"
        pages.append(f"## {role}\n\n{heading}{rows}")
    return "\n".join(pages)


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`".replace("|", "\\|") for word in words)


def _by_section() -> list[tuple[str, list[SettingField]]]:
    fields = [field for field in setting_fields().values() if "." in field.name]
    return [(section, list(group)) for section, group in groupby(fields, lambda field: field.name.partition(".")[0])]


def _default(field: SettingField) -> str:
    return "none" if field.default is None else f"`{_toml(field)}`"


def _toml(field: SettingField) -> str:
    """Spell the default as TOML does, which for our kinds of value is how JSON does."""
    value = field.default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps("" if value is None else value)


def _main(arguments: list[str]) -> int:
    stale = [
        path for path, text in generated_documents().items() if not path.exists() or path.read_text("utf-8") != text
    ]
    for path in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path.name} is not what {_COMMAND} writes\n")
        else:
            path.write_text(generated_documents()[path], encoding="utf-8")
            sys.stdout.write(f"wrote {path.name}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
