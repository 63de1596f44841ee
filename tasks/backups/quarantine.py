"""Why a restored dump of the broker lies apart, and what to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tasks.backups.manifest import Manifest, Redis

DIRECTORY: Final = "quarantine"
NOTE: Final = "README.txt"

_TEXT: Final = """\
These dumps are kept apart on purpose: do not start a crew on them.

{servers}

They are of restore point {point}, taken at {taken_at:%Y-%m-%d %H:%M:%S} UTC. A broker that starts on an old dump
delivers every message that was waiting at that moment once more, although the work may long be done. The ledger of the
restored database decides what is still to do, and sends it again by itself: an empty broker is the right one.

What counts were not yet in the database lie in the usage log, which is a part of the broker: to look at them, or at
anything else, start a server that delivers nothing to anybody, in a directory of its own.

    mkdir -m 700 look && cp broker.rdb look/dump.rdb
    redis-server --dir "$PWD/look" --port 0 --unixsocket "$PWD/look/socket" --save "" --appendonly no
    redis-cli -s look/socket

To go on with a dump all the same, as the broker of a crew that is stopped, knowing that old messages come again:
a server with `appendonly yes` reads its log and not the dump, and starts empty where there is no log. So start it
without one first, and have it write one before it is stopped:

    rm -r DATA/broker/appendonlydir && cp broker.rdb DATA/broker/dump.rdb
    redis-server --dir DATA/broker --port 0 --unixsocket DATA/broker/socket --save "" --appendonly no
    redis-cli -s DATA/broker/socket config set appendonly yes
    redis-cli -s DATA/broker/socket info persistence     (until aof_rewrite_in_progress:0 and aof_enabled:1)
    redis-cli -s DATA/broker/socket shutdown
    rm DATA/broker/dump.rdb && nightcrew up
"""


def quarantine_note(manifest: Manifest) -> str:
    """Give the text that is put beside the dumps of a point."""
    servers = "\n".join(_line(server) for server in manifest.redis)
    return _TEXT.format(servers=servers, point=manifest.point, taken_at=manifest.taken_at)


def _line(server: Redis) -> str:
    keys = sum(database.keys for database in server.databases)
    return f"    {server.name}.rdb    {keys} keys, written by {server.server_version}"
