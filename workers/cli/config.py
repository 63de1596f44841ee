"""`nightcrew config`: see and check the settings; make the users of the broker, and keys for signatures."""

import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import typer

from nightcrew._redis import kombu_url
from nightcrew.errors import InvalidSigningKeyError
from nightcrew.signing import SigningKey
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_error, print_json, print_line, print_table
from workers.redis_acl import ROLES, RoleName, acl_file, password_hash
from workers.settings import Settings, SettingsError, explain, load_settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(
    data_dir: DataDir = None,
    json: AsJson = False,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
) -> None:
    """Print every setting, passwords masked.

    JSON: {"settings": {NAME: {"value", "origin"}}}
    """
    settings = explain(load_settings(data_dir))
    if json:
        print_json({"settings": {one.name: {"value": one.value, "origin": one.origin} for one in settings}})
    elif origin:
        print_table(("setting", "value", "origin"), [(one.name, one.value, one.origin) for one in settings])
    else:
        print_table(("setting", "value"), [(one.name, one.value) for one in settings])


@app.command()
def validate(data_dir: DataDir = None, json: AsJson = False) -> ExitCode:
    """Check the settings and list every problem; exit 3 if there is one.

    JSON: {"valid", "problems": [TEXT]}
    """
    try:
        settings = load_settings(data_dir)
    except SettingsError as error:
        if json:
            print_json({"valid": False, "problems": error.problems})
        else:
            print_error(str(error))
        return ExitCode.CONFIGURATION
    if json:
        print_json({"valid": True, "problems": []})
    else:
        print_line(f"settings of {settings.data_dir}: ok")
    return ExitCode.OK


@app.command()
def redis_acl(
    users: Annotated[
        str, typer.Option("--users", metavar="LIST", help=f"Users to make, by comma: {', '.join(ROLES)}.")
    ] = ",".join(ROLES),
    database: Annotated[
        int | None, typer.Option("--database", min=0, help="Number of the Redis database. Default: the crew's own.")
    ] = None,
    from_stdin: Annotated[
        bool, typer.Option("--passwords-from-stdin", help="Read a password a line, in the order of the users.")
    ] = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Print an ACL file of Redis with a user for each role; it has hashes and no password.

    Passwords that are made here are shown once, on standard error. ops/security.md says what each user may do.

    JSON: {"acl": TEXT, "passwords": {USER: TEXT}}, passwords only where they were made here
    """
    roles = _roles(users)
    made = {} if from_stdin else {role: secrets.token_urlsafe(32) for role in roles}
    number = _database_of(load_settings(data_dir)) if database is None else database
    text = acl_file(_hashes(made or _read_passwords(roles)), database=number)
    if json:
        print_json({"acl": text, "passwords": made})
        return
    for role, password in made.items():
        sys.stderr.write(f"password of {role} (shown this once): {password}\n")
    sys.stdout.write(text)


def _database_of(settings: Settings) -> int:
    """Read the number of the Redis database from the address of the crew."""
    url = settings.broker.url
    if url is None:
        return 0
    parts = urlsplit(kombu_url(url.get_secret_value()))
    named = dict(parse_qsl(parts.query)).get("virtual_host", parts.path)
    return int(named.strip("/") or 0)


@app.command()
def new_signing_key(
    name: Annotated[
        str | None, typer.Option("--id", metavar="NAME", help="How signatures name it; default: today's date.")
    ] = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Print a new key for `wire.signing_keys` and for apps. It is kept nowhere; ops/signing.md says where it goes.

    JSON: {"signing_key": TEXT}
    """
    chosen = datetime.now(UTC).strftime("%Y-%m-%d") if name is None else name
    if any(key.get_secret_value().startswith(f"{chosen}:") for key in load_settings(data_dir).wire.signing_keys):
        msg = f"wire.signing_keys has a key of the name {chosen} already"
        raise CliError(msg, hint="nightcrew config new-signing-key --id NAME", code=ExitCode.USAGE)
    try:
        key = SigningKey.generate(chosen).reveal()
    except InvalidSigningKeyError as error:
        raise CliError(str(error), code=ExitCode.USAGE) from None
    if json:
        print_json({"signing_key": key})
    else:
        sys.stdout.write(f"{key}\n")


def _roles(users: str) -> list[RoleName]:
    names = [name.strip() for name in users.split(",")]
    found: list[RoleName] = [role for role in ROLES if role in names]
    if unknown := sorted(set(names) - set(ROLES)):
        msg = f"no role {', '.join(map(repr, unknown))}"
        raise CliError(msg, hint=f"some of {', '.join(ROLES)}", code=ExitCode.USAGE)
    return sorted(found, key=names.index)


def _read_passwords(roles: list[RoleName]) -> Mapping[RoleName, str]:
    lines = sys.stdin.read().splitlines()
    if len(lines) != len(roles):
        msg = f"{len(roles)} passwords are needed on standard input, a line each: there are {len(lines)}"
        raise CliError(msg, hint=f"in this order: {', '.join(roles)}", code=ExitCode.USAGE)
    return dict(zip(roles, lines, strict=True))


def _hashes(passwords: Mapping[RoleName, str]) -> Mapping[RoleName, str]:
    hashes: dict[RoleName, str] = {}
    for role, password in passwords.items():
        try:
            hashes[role] = password_hash(password)
        except ValueError as error:
            raise CliError(f"{role}: {error}", code=ExitCode.USAGE) from None  # noqa: EM102  one of a kind
    return hashes
