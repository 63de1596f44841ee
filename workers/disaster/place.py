"""The scratch directory of a disaster, and what of it is destroyed.

crew/   the data directory of the small crew: database, broker, settings, keys
vault/  its vault, as if on another machine: it survives
safe/   the recovery kit, as if on paper: it survives
apps/   the journals of the apps, which are other machines
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.backups.drills.disaster import PREFIX
from tasks.backups.store.sandboxes import sandbox
from tasks.errors import PermanentError
from workers.supervisor.directories import prepare_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a disaster happens."""

    directory: Path

    @property
    def crew(self) -> Path:
        """The data directory."""
        return self.directory / "crew"

    @property
    def database(self) -> Path:
        """The database."""
        return self.crew / "nightcrew.db"

    @property
    def broker(self) -> Path:
        """The broker's files."""
        return self.crew / "broker"

    @property
    def kit(self) -> Path:
        """The recovery kit."""
        return self.directory / "safe" / "kit.json"

    def journal(self, app: str) -> Path:
        """The journal of an app."""
        return self.directory / "apps" / f"{app}.jsonl"

    def furnish(self, settings: Settings) -> None:
        """Write the settings of the small crew; programs are those of the real one, and nothing else of it is used."""
        for path in (self.crew, self.kit.parent, self.journal("").parent):
            prepare_directory(path)
        values = {"vault": str(self.directory / "vault"), "engine": settings.backups.engine}
        backups = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        text = (
            f'[broker]\nserver = "{settings.broker.server}"\n\n[flower]\nenabled = false\n\n'
            f"[ledger]\nlease_s = 5.0\nrepublish_after_s = 2.0\n\n"
            f"[backups]\nenabled = true\ndrill_after_full = false\nnice = 0\nidle_io = false\n{backups}"
        )
        (self.crew / "nightcrew.toml").write_text(text, encoding="utf-8")

    def destroy(self, *, with_broker: bool) -> list[str]:
        """Remove everything of the crew, or everything but what its broker keeps; name what is gone."""
        gone = []
        for path in sorted(self.crew.iterdir()):
            if path == self.broker and not with_broker:
                continue
            gone.append(path.name)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return gone


@contextmanager
def scratch_place(settings: Settings, to: Path | None) -> Iterator[Place]:
    """Give an empty directory during the block; it is removed after it, unless it was named.

    Without a name it lies in the data directory, beside everything that lives there, and what killed simulations have
    left goes with the next one, or when a worker for backups starts.

    Raises:
        PermanentError: the directory that was named is not empty, or it is or holds the live one.
        DataDirectoryError: it cannot be made.
    """
    if to is None:
        with sandbox(prepare_directory(settings.data_dir), PREFIX) as directory:
            yield Place(directory=directory)
        return
    place, live = to.expanduser().resolve(), settings.data_dir.resolve()
    if place == live or place in live.parents:
        msg = f"{to} is the data directory of this crew or holds it: a disaster destroys what it finds, name another"
        raise PermanentError(msg)
    if to.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        msg = f"{to} is no empty directory: a disaster destroys what it finds, name a new one"
        raise PermanentError(msg)
    yield Place(directory=prepare_directory(place))
