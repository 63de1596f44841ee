"""The password of a vault, and the name of the crew in it: made once, in files that nobody else can read.

Who has lost the password has lost the vault, so it is never written over; `nightcrew backup kit` prints it for the
safe. The name, which is no secret, keeps two crews apart that share a vault: it must not change either.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path

_PASSWORD_BYTES: Final = 32
"""256 bits: no key of the engine is longer."""

UNNAMED: Final = "nightcrew"
"""The name in points of crews that have none of their own."""
_NAME_BYTES: Final = 6
_CREW_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class PasswordFileError(PermanentError):
    """The file with the password of a vault cannot be trusted, or is not there; the text says what to do."""


def make_password_file(path: Path) -> bool:
    """Make the file with a random password, whole or not at all; False where there is one, which is left as it is.

    Raises:
        PasswordFileError: the file cannot be written.
    """
    return _make_file(path, secrets.token_urlsafe(_PASSWORD_BYTES), what="password of the vault")


def make_crew_file(path: Path) -> bool:
    """Make the file with a random name of the crew; everything else as `make_password_file`."""
    return _make_file(path, f"nightcrew-{secrets.token_hex(_NAME_BYTES)}", what="name of the crew")


def read_crew(path: Path) -> str:
    """Give the name that the points of this crew have.

    Raises:
        PasswordFileError: there is none, or it is no name; with what to do.
    """
    try:
        name = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        name = ""
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the name of the crew cannot be read from {path}: {error}"
        raise PasswordFileError(msg) from None
    if not _CREW_NAME.fullmatch(name):
        msg = (
            f"{path} does not hold the name of this crew, by which it knows its points in the vault: write `crew` of "
            f"the recovery kit into it, or `{UNNAMED}` if the kit has none; a first backup makes a new name"
        )
        raise PasswordFileError(msg)
    return name


def check_password_file(path: Path) -> None:
    """Refuse a file that others may read, or that holds no password.

    Raises:
        PasswordFileError: with the command that mends it, where there is one.
    """
    read_password(path)


def read_password(path: Path) -> str:
    """Give the password. Only the recovery kit asks for it; the engine reads the file by itself.

    Raises:
        PasswordFileError: see `check_password_file`.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        msg = (
            f"there is no password of the vault at {path}: take the file from the recovery kit, and `chmod 600 {path}`"
        )
        raise PasswordFileError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        msg = f"the password of the vault cannot be read from {path}: {reason}; `chown $(id -un) {path}`"
        raise PasswordFileError(msg) from None
    if not stat.S_ISREG(mode):
        msg = f"{path} is no file: the password of the vault is one line in a file"
        raise PasswordFileError(msg)
    if mode & _OTHERS:
        msg = f"others may read the password of the vault: `chmod 600 {path}`"
        raise PasswordFileError(msg)
    if not text:
        msg = f"{path} is empty: put the password of the vault there from the recovery kit, and `chmod 600 {path}`"
        raise PasswordFileError(msg)
    return text


def write_password(path: Path, password: str) -> None:
    """Write a new file with a password, for its owner alone.

    Raises:
        OSError: it cannot be written, or there is something of its name.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask is
        file.write(f"{password}\n")
        file.flush()
        os.fsync(descriptor)


def _make_file(path: Path, text: str, *, what: str) -> bool:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_password(draft, text)
        is_new = _link(draft, path)
    except OSError as error:
        msg = f"the {what} cannot be written to {path}: {error.strerror or error}"
        raise PasswordFileError(msg) from error
    finally:
        with suppress(OSError):
            draft.unlink()
    _sync_directory(path.parent)
    return is_new


def _link(draft: Path, path: Path) -> bool:
    try:
        os.link(draft, path)  # unlike a rename, it fails where there is one already
    except FileExistsError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
