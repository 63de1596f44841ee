"""Where settings come from, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.runtime import LedgerOptions, UsageOptions
from workers.settings import SettingsError, load_settings
from workers.settings.fields import setting_fields


def problems_of(data_dir: Path, env: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(data_dir, env)
    return str(caught.value)


def write_file(data_dir: Path, text: str) -> Path:
    path = data_dir / "nightcrew.toml"
    path.write_text(text, encoding="utf-8")
    return path


def secrets_directory(data_dir: Path, **values: str) -> dict[str, str]:
    directory = data_dir / "secrets"
    directory.mkdir()
    for name, value in values.items():
        (directory / name).write_text(value + "\n", encoding="utf-8")
    return {"CREDENTIALS_DIRECTORY": str(directory)}


def test_defaults_need_nothing(tmp_path: Path) -> None:
    """An empty directory and an empty environment give a complete tree."""
    settings = load_settings(tmp_path, {})
    assert settings.broker.url is None
    assert settings.database_url == f"sqlite:///{tmp_path}/nightcrew.db"
    assert settings.usage.partitions == 1


def test_environment_wins(tmp_path: Path) -> None:
    """Environment over secrets over file over default."""
    write_file(tmp_path, "[usage]\npartitions = 2\ndrain_entries = 7\n[ledger]\nmax_attempts = 9\n")
    env = secrets_directory(tmp_path, nightcrew_usage__partitions="3", nightcrew_usage__drain_entries="8")
    settings = load_settings(tmp_path, {**env, "NIGHTCREW_USAGE__PARTITIONS": "4"})
    assert (settings.usage.partitions, settings.usage.drain_entries, settings.ledger.max_attempts) == (4, 8, 9)


def test_secrets_nest(tmp_path: Path) -> None:
    """A file of the secrets directory reaches a nested setting, without the newline at its end."""
    env = secrets_directory(tmp_path, nightcrew_broker__url="redis://:canary@localhost/0", flower_tls_key="not ours")
    settings = load_settings(tmp_path, env)
    assert settings.broker.url is not None
    assert settings.broker.url.get_secret_value() == "redis://:canary@localhost/0"


def test_empty_variable_takes_back(tmp_path: Path) -> None:
    """An empty URL in the environment undoes the one in the file."""
    write_file(tmp_path, '[broker]\nurl = "redis://localhost/0"\n')
    assert load_settings(tmp_path, {"NIGHTCREW_BROKER__URL": ""}).broker.url is None


def test_data_dir_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over the variable, the variable over the current directory; all become absolute."""
    monkeypatch.chdir(tmp_path)
    env = {"NIGHTCREW_DATA_DIR": "from-variable"}
    assert load_settings(Path("given"), env).data_dir == tmp_path / "given"
    assert load_settings(None, env).data_dir == tmp_path / "from-variable"
    assert load_settings(None, {}).data_dir == tmp_path / ".nightcrew"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("NIGHTCREW_BROKR__URL", "NIGHTCREW_BROKER__URL"),
        ("NIGHTCREW_BROKER__ULR", "NIGHTCREW_BROKER__URL"),
        ("NIGHTCREW_USAGE_PARTITIONS", "NIGHTCREW_USAGE__PARTITIONS"),
        ("nightcrew_log__levle", "NIGHTCREW_LOG__LEVEL"),
    ],
)
def test_unknown_variable(tmp_path: Path, variable: str, meant: str) -> None:
    """A misspelt variable is an error that names the right one."""
    assert f"{variable}: no such setting; did you mean {meant}?" in problems_of(tmp_path, {variable: "x"})


def test_whole_section_in_one_variable_is_refused(tmp_path: Path) -> None:
    """JSON for a whole section would hide misspelt names in it."""
    assert "NIGHTCREW_USAGE" in problems_of(tmp_path, {"NIGHTCREW_USAGE": '{"partitions": 2}'})


def test_variables_of_tests_are_not_ours(tmp_path: Path) -> None:
    """The test suite's own variables reach crews that it starts, and harm none."""
    load_settings(tmp_path, {"NIGHTCREW_TEST_SEED": "1", "PATH": "/bin"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[usage]\npartition = 2\n", "no such setting usage.partition; did you mean usage.partitions?"),
        ("[usgae]\n", "no such setting usgae"),
        ("[usgae]\npartitions = 2\n", "did you mean usage.partitions?"),
        ("usage = 3\n", "no such setting usage"),
        ("[usage.partitions]\nx = 1\n", "no such setting usage.partitions.x"),
        ('data_dir = "/x"\n', "use NIGHTCREW_DATA_DIR"),
        ("[usage\n", "cannot be read"),
    ],
)
def test_file_with_unknown_names(tmp_path: Path, text: str, expected: str) -> None:
    """Nothing in the file is ignored, and the message names the file."""
    path = write_file(tmp_path, text)
    problems = problems_of(tmp_path, {})
    assert expected in problems
    assert str(path) in problems


def test_empty_section_is_fine(tmp_path: Path) -> None:
    """The generated example, where every line is commented out, is valid."""
    write_file(tmp_path, "[usage]\n[broker]\n")
    load_settings(tmp_path, {})


@pytest.mark.parametrize("name", ["nightcrew_broker__ulr", "nightcrew_brokr", "nigthcrew_broker__url"])
def test_misspelt_secret(tmp_path: Path, name: str) -> None:
    """A file that was meant for us under a wrong name is an error."""
    assert "no such setting" in problems_of(tmp_path, secrets_directory(tmp_path, **{name: "x"}))


def test_missing_secrets_directory(tmp_path: Path) -> None:
    """A secrets directory that is named but not there is an error, not an empty one."""
    assert "cannot be read" in problems_of(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")})


def test_unreadable_file(tmp_path: Path) -> None:
    """A settings file that is a directory is reported as unreadable."""
    (tmp_path / "nightcrew.toml").mkdir()
    assert "nightcrew.toml: cannot be read" in problems_of(tmp_path, {})


def test_link_to_nowhere(tmp_path: Path) -> None:
    """A settings file that is a broken link is an error, not a missing file."""
    (tmp_path / "nightcrew.toml").symlink_to(tmp_path / "gone.toml")
    assert "nightcrew.toml: cannot be read" in problems_of(tmp_path, {})


def test_secret_that_leads_away(tmp_path: Path) -> None:
    """A secret that is a link out of its directory is an error: reading it silently as unset would be worse."""
    (tmp_path / "elsewhere").write_text("redis://localhost/0", encoding="utf-8")
    env = secrets_directory(tmp_path)
    (tmp_path / "secrets" / "nightcrew_broker__url").symlink_to(tmp_path / "elsewhere")
    assert "not a file of that directory" in problems_of(tmp_path, env)


@pytest.mark.parametrize("value", ["0", "65", "many", "1.5"])
def test_partitions_in_bounds(tmp_path: Path, value: str) -> None:
    """One to 64 partitions; the message says which variable is wrong."""
    problems = problems_of(tmp_path, {"NIGHTCREW_USAGE__PARTITIONS": value})
    assert problems.startswith("usage.partitions (environment NIGHTCREW_USAGE__PARTITIONS): ")


def test_drain_workers_need_postgresql(tmp_path: Path) -> None:
    """SQLite has one writer, so more drain workers are refused there and accepted on PostgreSQL."""
    env = {"NIGHTCREW_USAGE__DRAIN_WORKERS": "2"}
    assert "SQLite has one writer" in problems_of(tmp_path, env)
    load_settings(tmp_path, {**env, "NIGHTCREW_DATABASE__URL": "postgresql://localhost/nightcrew"})


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Every problem is told in one go, one line each, and the error survives pickling."""
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {"NIGHTCREW_X": "1", "NIGHTCREW_Y": "2"})
    assert len(caught.value.problems) == 2
    assert copy.copy(caught.value).problems == caught.value.problems


def test_refusals_keep_secrets(tmp_path: Path) -> None:
    """Neither the message nor what raised it shows a password."""
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {"NIGHTCREW_BROKER__URL": "http://:canary@host", "NIGHTCREW_LOG__LEVEL": "canary"})
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_tree_is_frozen(tmp_path: Path) -> None:
    """No part of the tree can be changed after loading."""
    settings = load_settings(tmp_path, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.usage.partitions = 2


def test_options_of_slices(tmp_path: Path) -> None:
    """Without settings the slices get their own defaults; with them, durations in seconds."""
    settings = load_settings(tmp_path, {})
    assert settings.usage.options() == UsageOptions()
    assert settings.ledger.options() == LedgerOptions()
    settable = {name.rpartition(".")[2].removesuffix("_s") for name in setting_fields()}
    settable.add("watched_entries")  # those that have an address in the section `schedule`
    assert {one.name for options in (UsageOptions, LedgerOptions) for one in fields(options)} <= settable
    changed = load_settings(tmp_path, {"NIGHTCREW_LEDGER__LEASE_S": "7.5"})
    assert changed.ledger.options().lease == timedelta(seconds=7.5)
