"""Reads the sources, one by one, and makes one tree of them.

Each source says which values it has and where it has them from; later sources win. Nothing is ignored: a name
that no setting has is an error, wherever it stands.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, NestedSecretsSettingsSource
from pydantic_settings import SettingsError as SourceError

from tasks.errors import CrewError
from workers.settings.fields import setting_fields
from workers.settings.tree import Origin, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

FILE_NAME: Final = "nightcrew.toml"
SECRETS_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
"""Variable that names the secrets directory; systemd sets it for `LoadCredential=`."""

_PREFIX: Final = "NIGHTCREW_"
_DATA_DIR: Final = "NIGHTCREW_DATA_DIR"
_DEFAULT_DATA_DIR: Final = ".nightcrew"
# Variables of the test suite (a PostgreSQL to use, the seed of a chaos run) reach the processes it starts.
_FOREIGN_PREFIX: Final = "NIGHTCREW_TEST_"
_ALIKE: Final = 0.85


class SettingsError(CrewError):
    """The settings cannot be used; `problems` has one line each, with what to write instead."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which calls the class with `args` alone."""
        return (type(self), (self.problems,))


class _Source:
    """Values by dotted name, each with its origin, and the problems met on the way."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.problems: list[str] = []

    def take(self, nested: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
        for name, value in _flat(nested):
            if name in origins:
                self.values[name] = value
                self.origins[name] = origins[name]


def load_settings(data_dir: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of the crew that lives in a data directory.

    The directory is the one given, else `NIGHTCREW_DATA_DIR`, else `.nightcrew` in the current one.
    `env` stands for the environment of the process, and is that by default.

    Raises:
        SettingsError: a name is unknown, a value is refused, or a file cannot be read.
    """
    env = os.environ if env is None else env
    directory, origin = _data_dir(data_dir, env)
    sources = (_from_file(directory / FILE_NAME), _from_secrets(env), _from_environment(env))
    problems = [problem for source in sources for problem in source.problems]
    if problems:
        raise SettingsError(problems)
    values: dict[str, Any] = {"data_dir": directory}
    origins = {"data_dir": origin}
    for source in sources:
        values |= source.values
        origins |= source.origins
    return _build(values, origins)


def _data_dir(given: Path | None, env: Mapping[str, str]) -> tuple[Path, Origin]:
    if given is not None:
        return given.expanduser().absolute(), Origin(description="--data-dir")
    if env.get(_DATA_DIR):
        return Path(env[_DATA_DIR]).expanduser().absolute(), Origin(description=f"environment {_DATA_DIR}")
    return Path(_DEFAULT_DATA_DIR).absolute(), Origin(description="default")


def _build(values: Mapping[str, Any], origins: dict[str, Origin]) -> Settings:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[field] = value
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        raise SettingsError(_refusals(error, origins)) from None  # the cause would show the values
    settings._origins.update(origins)  # noqa: SLF001  this module and the tree are one package
    return settings


def _refusals(error: ValidationError, origins: Mapping[str, Origin]) -> list[str]:
    problems = []
    for refusal in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in refusal["loc"])
        message = refusal["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        origin = f" ({origins[name].description})" if name in origins else ""
        problems.append(f"{name}{origin}: {message}" if name else message)
    return problems


class _EnvironmentSource(EnvSettingsSource):
    """The library's source, on a mapping instead of `os.environ`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._env.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Leave what is no JSON as it is: the tree refuses it, and names the setting."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class _SecretsSource(NestedSecretsSettingsSource):
    """The library's source, as patient as the one of the environment."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Leave what is no JSON as it is: keys may stand one to a line."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _from_environment(env: Mapping[str, str]) -> _Source:
    source = _Source()
    known = {_variable(name): name for name in setting_fields()}
    ours: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    for variable, value in env.items():
        upper = variable.upper()
        if not upper.startswith(_PREFIX) or upper.startswith(_FOREIGN_PREFIX) or upper == _DATA_DIR:
            continue
        if upper not in known:
            source.problems.append(f"environment {variable}: no such setting{_did_you_mean(upper, known)}")
            continue
        ours[variable] = value
        origins[known[upper]] = Origin(description=f"environment {variable}")
    source.take(_EnvironmentSource(ours)(), origins)
    return source


def _from_secrets(env: Mapping[str, str]) -> _Source:
    source = _Source()
    if not env.get(SECRETS_DIRECTORY):
        return source
    directory = Path(env[SECRETS_DIRECTORY])
    known = {_variable(name).lower(): name for name in setting_fields()}
    origins: dict[str, Origin] = {}
    try:
        for path in sorted(directory.iterdir()):
            name = path.name.lower()
            if name in known:
                origins[known[name]] = Origin(description=f"secret {path}", path=path)
            elif _is_ours(name, known):
                source.problems.append(f"secret {path}: no such setting{_did_you_mean(name, known)}")
        nested = _SecretsSource(Settings, secrets_dir=directory)()  # type: ignore[arg-type]  # it takes either
    except (OSError, UnicodeDecodeError, SourceError) as error:
        source.problems.append(f"secrets directory {directory}: cannot be read ({error})")
        return source
    source.take(nested, origins)
    # The library passes over links that lead out of the directory, and over what is no file.
    for name in origins.keys() - source.values.keys():
        source.problems.append(f"{origins[name].description}: not a file of that directory")
    return source


def _is_ours(name: str, known: Mapping[str, str]) -> bool:
    """Tell a misspelt setting from what a unit file loads for other programs."""
    return name.startswith(_PREFIX.lower()) or bool(difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE))


def _from_file(path: Path) -> _Source:
    source = _Source()
    try:
        # A link to nowhere is a file that was meant to be there.
        if not path.exists() and not path.is_symlink():
            return source
        nested = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        source.problems.append(f"{path}: cannot be read ({error})")
        return source
    known = [name for name in setting_fields() if name != "data_dir"]
    sections = {name.partition(".")[0] for name in known}
    names = [
        name for name, _ in _flat({key: value for key, value in nested.items() if value != {} or key not in sections})
    ]
    for name in names:
        if name == "data_dir":
            source.problems.append(f"{path}: data_dir cannot be set in a file that lies in it: use {_DATA_DIR}")
        elif name not in known:
            source.problems.append(f"{path}: no such setting {name}{_did_you_mean(name, known)}")
    source.take(nested, {name: Origin(description=str(path), path=path) for name in names if name in known})
    return source


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict) and value and not _holds_several(f"{prefix}{name}"):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _holds_several(name: str) -> bool:
    """Tell a setting of several values from a section: a table in its place is its value, right or wrong."""
    field = setting_fields().get(name)
    return field is not None and isinstance(field.default, dict | tuple)


def _variable(name: str) -> str:
    """Give the variable of the environment that sets it."""
    return _PREFIX + name.replace(".", "__").upper()


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
