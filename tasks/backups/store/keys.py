"""The password of a vault: made once, in a file that nobody else can read.

Who has lost it has lost the vault, so it is never written over; `nightcrew backup kit` prints it for the safe.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path

_PASSWORD_BYTES: Final = 32
"""256 bits: no key of the engine is longer."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class PasswordFileError(PermanentError):
    """The file with the password of a vault cannot be trusted, or is not there; the text says what to do."""


def make_password_file(path: Path) -> bool:
    """Make the file with a random password, whole or not at all; False where there is one, which is left as it is.

    Raises:
        PasswordFileError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_password(draft, secrets.token_urlsafe(_PASSWORD_BYTES))
        is_new = _link(draft, path)
    except OSError as error:
        msg = f"the password of the vault cannot be written to {path}: {error.strerror or error}"
        raise PasswordFileError(msg) from error
    finally:
        with suppress(OSError):
            draft.unlink()
    _sync_directory(path.parent)
    return is_new


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
