"""From the vault and the recovery kit back to a data directory: the steps of the runbook, one function each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nightcrew._redis import connect
from nightcrew.wire import usage_stream
from tasks.backups.kit import Kit
from tasks.backups.operations import restore_from_vault, vault_from_kit
from tasks.backups.staging import Limits
from tasks.backups.store.keys import write_password
from tasks.backups.store.programs import polite
from tasks.errors import PermanentError
from workers.disaster.crew import wait_for, without_settings
from workers.settings import load_settings
from workers.supervisor.broker_program import find_program
from workers.supervisor.directories import place_socket, prepare_directory, remove_socket
from workers.supervisor.spawn import spawn

if TYPE_CHECKING:
    from tasks.backups.phases import Teller
    from workers.disaster.place import Place
    from workers.supervisor.broker_program import ServerChoice

_REPLAY_TIMEOUT_S: Final = 120.0
_ASK_TIMEOUT_S: Final = 5.0


def restore_with_kit(place: Place, point: str, to: Path, *, engine: str, teller: Teller) -> dict[str, Any]:
    """Restore a point with nothing but kit and vault; give the report that also lies in the directory.

    Raises:
        PermanentError: it cannot be restored.
        TransientError: the vault was in the way.
    """
    kit = Kit.from_json(place.kit.read_text(encoding="utf-8"))
    with vault_from_kit(kit, place.directory, engine=engine) as opened:
        return restore_from_vault(opened, point, to=to, teller=teller)


def put_back(place: Place, restored: Path) -> list[str]:
    """Put database and settings where they were, and the keys of the kit with them; name the files."""
    report = json.loads((restored / "restore.json").read_text(encoding="utf-8"))
    [database] = report["restored"]["database"]["files"]
    moves = {place.database: restored / database}
    moves |= {Path(one["origin"]): restored / one["file"] for one in report["restored"].get("config", [])}
    for target, source in moves.items():
        if not target.is_relative_to(place.crew):
            msg = f"{source} belongs to {target}, which is no place of this crew"
            raise PermanentError(msg)
        shutil.copy2(source, target)
    kit = Kit.from_json(place.kit.read_text(encoding="utf-8"))
    options = load_settings(place.crew, env={}).backups.options(place.crew)
    prepare_directory(options.vault.password_file.parent)
    write_password(options.vault.password_file, kit.vault("primary").password)
    if kit.crew is not None and options.crew_file is not None:
        options.crew_file.write_text(f"{kit.crew}\n", encoding="utf-8")
    return [str(target.relative_to(place.crew)) for target in moves]


def revive_broker(place: Place, dump: Path, *, choice: ServerChoice) -> list[bytes]:
    """Make the broker's append-only file of a quarantined dump, by the steps of `quarantine/README.txt`.

    A server that keeps such a file does not read a dump: one that keeps none reads it, and writes the file then. Give
    what entries the usage log has in the dump, as they were written.

    Raises:
        TransientError: the server did not come up.
    """
    broker = prepare_directory(place.broker)
    target = broker / "dump.rdb"
    shutil.copyfile(dump, target)
    socket = place_socket(broker / "revive.sock")
    options = {"dir": broker, "port": 0, "unixsocket": socket, "unixsocketperm": 700, "save": "", "appendonly": "no"}
    argv = [str(find_program(choice))]
    argv += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    argv += ["--aof-use-rdb-preamble", "no"]
    server = spawn(argv, env={}, cwd=broker, log=place.directory / "revive.log")
    try:
        with connect(f"unix://{socket}?db=0", _ASK_TIMEOUT_S) as client:
            wait_for(lambda: _answers(client), "the server of the restored dump")
            client.config_set("appendonly", "yes")
            wait_for(lambda: _has_written(client.info("persistence")), "the append-only file of the restored dump")
            entries = _logged(client)
            with suppress(RedisError):
                client.shutdown(nosave=True)
        wait_for(lambda: server.exit_code() is not None, "the end of that server")
    finally:
        server.kill()
        remove_socket(socket, wanted=broker / "revive.sock")
    target.unlink()
    return entries


def replay(place: Place) -> dict[str, Any]:
    """Have `nightcrew usage replay` apply what the log has behind the database; give what it tells.

    Raises:
        PermanentError: it refuses.
    """
    verb = [sys.executable, "-m", "workers.cli", "usage", "replay", "--json", "--data-dir", str(place.crew)]
    done = subprocess.run(
        [*polite(Limits(nice=0, idle_io=False), at_death="KILL"), *without_settings(), *verb],
        cwd=place.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=_REPLAY_TIMEOUT_S,
    )
    if done.returncode:
        msg = f"nightcrew usage replay ended with {done.returncode}: {done.stderr.strip()}"
        raise PermanentError(msg)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False


def _logged(client: Any) -> list[bytes]:
    return [value for _, fields in client.xrange(usage_stream(0)) for value in fields.values()]


def _has_written(persistence: dict[str, Any]) -> bool:
    return bool(persistence["aof_enabled"]) and not (
        persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]
    )
