"""A connection of a scan's own: it is named, touches no idle times, counts what it asks, and is closed at the end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from tasks.errors import PermanentError, TransientError
from tasks.ttl.server_state import ServerState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENT_NAME: Final = "nightcrew-ttl-scan"

# What belongs to the pool that the options are taken from; the last two are about sockets that have no port.
_NOT_COPIED: Final = ("maint_notifications", "orig_", "himport_registry", "retry", "health_check_interval")
_OF_A_SOCKET: Final = ("path",)


class ScanConnection:
    """One connection to one server. It never connects again by itself: what was told to the server would be lost."""

    def __init__(self, client: Redis, database: int) -> None:
        connection = client.connection
        assert connection is not None  # noqa: S101  a client of a single connection has it
        self._client = client
        self._connection: Any = connection
        self._database = database
        self.asked: Counter[str] = Counter()
        """Own commands by the name under which the server's statistics have them."""
        self.is_untouching = False

    def introduce(self, state: ServerState) -> None:
        """Tell the server who asks, and that being looked at is no use of a key; where it is barred nothing is lost."""
        with contextlib.suppress(NoPermissionError, ResponseError):
            self.ask("CLIENT SETNAME", CLIENT_NAME)
        if state.knows_no_touch:
            with contextlib.suppress(NoPermissionError, ResponseError):
                self.ask("CLIENT NO-TOUCH", "ON")
                self.is_untouching = True

    def ask(self, command: str, *arguments: Any) -> Any:
        """Run one command, counted.

        Raises:
            RedisError: as redis-py raises it.
        """
        self.asked[command.lower().replace(" ", "|")] += 1
        return self._client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]

    def ask_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send many commands at once and give the plain answers, errors among them.

        Raises:
            RedisError: the connection broke.
        """
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        answers = []
        for _ in commands:
            try:
                answers.append(self._connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers

    def ping_ms(self) -> float:
        """Measure a round trip."""
        began = time.perf_counter()
        self.ask("PING")
        return (time.perf_counter() - began) * 1_000

    def state(self) -> ServerState:
        """Ask the server for everything that it says of itself."""
        return ServerState.from_info(self.ask("INFO", "all"), self._database)


@contextlib.contextmanager
def scan_connection(redis: Redis, address: tuple[str, int] | None = None) -> Iterator[ScanConnection]:
    """Open one as `redis` would, or with its user and password to another address.

    Raises:
        TransientError: the server is away, or went away during the block.
        PermanentError: the user may not do what a scan needs; the text says what it was refused.
    """
    pool = redis.connection_pool
    kind = pool.connection_class
    options = {name: one for name, one in pool.connection_kwargs.items() if not name.startswith(_NOT_COPIED)}
    if address is not None:
        options = {name: one for name, one in options.items() if name not in _OF_A_SOCKET}
        options |= {"host": address[0], "port": address[1]}
        kind = kind if "path" not in pool.connection_kwargs else Connection
    options |= {"decode_responses": False, "retry": Retry(NoBackoff(), 0)}
    own = ConnectionPool(connection_class=kind, max_connections=1, **options)
    try:
        client = Redis(connection_pool=own, single_connection_client=True)
        yield ScanConnection(client, int(options.get("db") or 0))
    except NoPermissionError as error:
        msg = f"the user of the cache's Redis may not do what a scan needs (ops/redis-acl.md): {error}"
        raise PermanentError(msg) from error
    except RedisError as error:
        msg = f"cannot scan the cache: {error}"
        raise TransientError(msg) from error
    finally:
        own.disconnect()
