"""Where each value comes from, and whether strangers can read the secrets among them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import SecretStr

from workers.settings.fields import setting_fields
from workers.settings.tree import DEFAULT_ORIGIN
from workers.settings.urls import masked_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.settings.tree import Settings

_MASK: Final = "***"

_SHORTEST_KEY: Final = 8

_ADDRESSES: Final = frozenset({"broker.url", "database.url", "flower.broker_url"})
"""Secrets of which the password alone is one; of all others nothing is shown."""

_ACL_ATTRIBUTE: Final = "system.posix_acl_access"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingOrigin:
    """One setting, fit to be printed."""

    name: str
    value: str | float | bool | None
    """Passwords stand as `***`."""
    origin: str
    is_secret: bool


def explain(settings: Settings) -> list[SettingOrigin]:
    """Give every setting with its value, passwords masked, and where the value came from."""
    origins = settings.origins
    return [
        SettingOrigin(
            name=name,
            value=_printable(name, _value(settings, name)),
            origin=origins.get(name, DEFAULT_ORIGIN).description,
            is_secret=field.is_secret,
        )
        for name, field in setting_fields().items()
    ]


def secret_texts(settings: Settings) -> frozenset[str]:
    """Give every text that must never be written: passwords of addresses, keys, addresses that are secret whole."""
    secrets = ((name, secret) for name in setting_fields() for secret in _revealed(_value(settings, name)))
    return frozenset(part for name, secret in secrets for part in _parts(name, secret)) - {""}


def world_readable_secrets(settings: Settings) -> list[Path]:
    """Give the files with secrets in use that other users of the machine can read; the fix is `chmod 600`."""
    secrets = {name for name in setting_fields() if any(_revealed(_value(settings, name)))}
    paths = {origin.path for name, origin in settings.origins.items() if name in secrets and origin.path is not None}
    return sorted(path for path in paths if _is_exposed(path))


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _printable(name: str, value: Any) -> str | float | bool | None:
    if name in _ADDRESSES and isinstance(value, SecretStr):
        return masked_url(value.get_secret_value())
    if revealed := list(_revealed(value)):
        return ", ".join(_MASK for _ in revealed)
    return value if isinstance(value, bool | int | float | None) else str(value)


def _revealed(value: Any) -> Iterator[str]:
    """Give the secrets in a value: it may be one, or hold several."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, list | tuple | set | frozenset | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _revealed(inner)


def _parts(name: str, secret: str) -> Iterator[str]:
    """Give what must not be seen of a secret, as it is written and as it is meant."""
    if "://" not in secret:
        yield from (secret, secret.rpartition(":")[2])  # a key may stand behind its name, as in `name:key`
        return
    parts = urlsplit(secret)
    named = [parts.password or ""]
    options = parse_qsl(parts.query)
    if name in _ADDRESSES:
        named += [value for option, value in options if "pass" in option.lower()]
    else:  # of a web address every long part may be the key
        named += [part for part in parts.path.split("/") if len(part) >= _SHORTEST_KEY and "{" not in part]
        named += [value for _, value in options]
    for one in named:
        yield from (one, unquote(one), quote(unquote(one), safe=""))


def _is_exposed(path: Path) -> bool:
    status = path.stat()
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        return True
    if not status.st_mode & (stat.S_IRGRP | stat.S_IWGRP):
        return False
    # systemd lets the service's user read a credential by an ACL, and the mask of an ACL shows as the group's bits.
    return not (status.st_gid == 0 and _has_acl(path))


def _has_acl(path: Path) -> bool:
    return hasattr(os, "listxattr") and _ACL_ATTRIBUTE in os.listxattr(path)
