"""Where each value comes from, and whether strangers can read the secrets among them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from workers.settings.fields import setting_fields
from workers.settings.tree import DEFAULT_ORIGIN
from workers.settings.urls import masked_url

if TYPE_CHECKING:
    from pathlib import Path

    from workers.settings.tree import Settings

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
            value=_printable(_value(settings, name)),
            origin=origins.get(name, DEFAULT_ORIGIN).description,
            is_secret=field.is_secret,
        )
        for name, field in setting_fields().items()
    ]


def world_readable_secrets(settings: Settings) -> list[Path]:
    """Give the files with secrets in use that other users of the machine can read; the fix is `chmod 600`."""
    secrets = {name for name, field in setting_fields().items() if field.is_secret}
    paths = {origin.path for name, origin in settings.origins.items() if name in secrets and origin.path is not None}
    return sorted(path for path in paths if _is_exposed(path))


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _printable(value: Any) -> str | float | bool | None:
    if isinstance(value, SecretStr):
        return masked_url(value.get_secret_value())
    return value if isinstance(value, bool | int | float | None) else str(value)


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
