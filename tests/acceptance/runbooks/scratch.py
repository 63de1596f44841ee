"""A crew to practise on: with counts, jobs, two vaults, a proven point and a kit; and the ways to damage it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nightcrew import Nightcrew
from tests.support import wait_until
from tests.support.processes import is_gone, short_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.runbooks.pages import Block

KEYS: Final = 50
_BLOCK_S: Final = 300
_SETTINGS: Final = """\
[backups]
enabled = true
second_vault = "{second}"
drill_after_full = false

[flower]
enabled = false
"""


@dataclass
class Scratch:
    """A crew in a directory of its own."""

    root: Path

    @property
    def data_dir(self) -> Path:
        return self.root / "crew"

    @property
    def vault(self) -> Path:
        return self.data_dir / "vault"

    @property
    def second(self) -> Path:
        return self.root / "second"

    @property
    def kit(self) -> Path:
        return self.root / "kit.json"

    @property
    def database(self) -> Path:
        return self.data_dir / "nightcrew.db"

    def ask(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """Run a verb, as the pages do: with the settings of the directory and nothing else."""
        answer = self.shell(f"nightcrew {' '.join(map(str, arguments))} --json --data-dir {self.data_dir}", code=code)
        found: dict[str, Any] = json.loads(answer)
        return found

    def shell(self, text: str, *, code: int = 0) -> str:
        """Run commands as a page has them."""
        saved = self.root / "variables"
        script = f"set -euo pipefail\n[ -f {saved} ] && . {saved}\n{text}\nexport -p > {saved}\n"
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            env=self._environment(),
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=_BLOCK_S,
        )
        assert done.returncode == code, f"{text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + ("" if code == 0 else done.stderr)

    def run(self, block: Block) -> str:
        """Run a block of a page, and see what must be seen."""
        printed = self.shell(block.commands, code=block.code)
        missing = [text for text in block.expected if text not in printed]
        assert missing == [], f"line {block.line}: {block.commands}\nprinted\n{printed}"
        return printed

    def count(self, rounds: int = 1) -> None:
        """Have an app count each key once a round, and wait until it is counted."""
        broker = json.loads((self.data_dir / "run" / "crew.json").read_text())["broker_url"]
        with Nightcrew(broker) as app:
            for _ in range(rounds):
                app.usage.increment_many([f"key.{number}" for number in range(KEYS)])
                app.usage.flush()
        self.ask("usage", "snapshot", "--wait", "60")

    def total(self) -> int:
        """Add all counts up, from the command."""
        return sum(row["total"] for row in self.ask("usage", "snapshot")["counts"])

    def start(self) -> None:
        self.shell("$START")

    def stop(self) -> None:
        self.shell("$STOP")

    def kill(self) -> None:
        """End whatever runs there, by the pids that it wrote down."""
        try:
            record = json.loads((self.data_dir / "run" / "crew.json").read_text())
        except (OSError, ValueError):
            return
        if not is_gone(record["pid"]):
            os.kill(record["pid"], 15)
            wait_until(lambda: is_gone(record["pid"]), timeout_s=60, what="the end of the crew")

    def _environment(self) -> dict[str, str]:
        here = Path(__file__).parent
        bin_directory = Path(sys.executable).parent
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "TERM") if name in os.environ}
        return {
            **kept,
            "PATH": f"{bin_directory}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "DATA_DIR": str(self.data_dir),
            "WORK": str(self.root / "work"),
            "KIT": str(self.kit),
            "START": f"{sys.executable} {here / 'service.py'} start {self.data_dir}",
            "STOP": f"{sys.executable} {here / 'service.py'} stop {self.data_dir}",
        }


@contextmanager
def scratch() -> Iterator[Scratch]:
    """Give a crew that has counted, with two points in two vaults, one of them proven; it runs."""
    with short_directory() as root:
        made = Scratch(root)
        made.data_dir.mkdir(mode=0o700)
        settings = made.data_dir / "nightcrew.toml"
        settings.write_text(_SETTINGS.format(second=made.second))
        settings.chmod(0o600)
        try:
            made.start()
            made.count()
            made.ask("backup", "full")
            made.count()
            made.ask("backup", "incremental")
            made.ask("backup", "copy")
            made.ask("backup", "kit", "--to", made.kit)
            made.ask("drill", "latest")
            made.count(2)
            yield made
        finally:
            made.kill()


def lose_rows(crew: Scratch) -> None:
    """Delete most counts, as a bad script does."""
    with closing(sqlite3.connect(crew.database)) as connection, connection:
        connection.execute("DELETE FROM usage_counts WHERE key LIKE 'key.1%'")
        connection.execute("UPDATE usage_hours SET total = 0")


def lose_machine(crew: Scratch) -> None:
    """Lose all but the disk of the vaults and the kit."""
    crew.kill()
    crew.vault.rename(crew.root / "disk")
    shutil.rmtree(crew.data_dir)
    crew.data_dir.mkdir(mode=0o700)
    (crew.root / "disk").rename(crew.vault)


def garble_vault(crew: Scratch) -> None:
    """Write over a piece of every pack of the first vault."""
    for pack in (path for path in (crew.vault / "data").rglob("*") if path.is_file()):
        pack.chmod(0o600)
        with pack.open("r+b") as file:
            file.seek(pack.stat().st_size // 3)
            file.write(b"\0" * 64)


def lose_key(crew: Scratch) -> None:
    """Lose the file with the password."""
    (crew.data_dir / "keys" / "vault").write_text("another\n")


def restore_wrong_point(crew: Scratch) -> None:
    """Put the oldest point in the place of the database, and count on it."""
    crew.stop()
    full = crew.ask("backup", "list")["points"][-1]["id"]
    crew.ask("restore", full, "--only", "database", "--to", crew.root / "wrong-point")
    for file in crew.data_dir.glob("nightcrew.db*"):
        file.unlink()
    shutil.copyfile(crew.root / "wrong-point" / "database" / "nightcrew.db", crew.database)
    crew.start()


def encrypt_everything(crew: Scratch) -> None:
    """Garble whatever lies in the data directory, the vault there too; the second vault is out of reach."""
    crew.kill()
    for path in [path for path in crew.data_dir.rglob("*") if path.is_file()]:
        path.chmod(0o600)
        path.write_bytes(os.urandom(64))
    crew.data_dir.rename(crew.root / "evidence")


def lose_redis(crew: Scratch) -> None:
    """Kill the crew, and lose what its broker had on the disk."""
    crew.kill()
    shutil.rmtree(crew.data_dir / "broker")
    crew.start()


DISASTERS: Final[dict[str, Callable[[Scratch], None]]] = {
    "partial-loss.md": lose_rows,
    "full-loss.md": lose_machine,
    "corrupted-vault.md": garble_vault,
    "lost-key.md": lose_key,
    "wrong-restore.md": restore_wrong_point,
    "ransomware.md": encrypt_everything,
    "redis-lost.md": lose_redis,
}
EXACT: Final = frozenset({"partial-loss.md", "corrupted-vault.md", "lost-key.md", "wrong-restore.md", "redis-lost.md"})
"""After these no count is lost; after the others those since the newest point are, with the log that was lost too."""
