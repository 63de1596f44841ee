"""A scan of a cache: bounded, read-only, slow on purpose, and aware of what it does to the server.

It reads some thousands of keys in the order of the server's own hash, which is chance, and says how sure it is of what
follows for all of them (`tasks/ttl/scan_sample.py`). SCAN, PTTL, OBJECT IDLETIME, MEMORY USAGE, INFO and PING are all
it asks; `ops/redis-acl.md` has the user for it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tasks.errors import PermanentError, TransientError
from tasks.ttl.prefixes import Prefixes
from tasks.ttl.scan_sample import Sample
from tasks.ttl.scanning import ScanOptions
from tasks.ttl.scans import Scan
from tasks.ttl.store.scan_connection import scan_connection
from tasks.ttl.store.scan_pages import Wanted
from tasks.ttl.store.scan_walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis import Redis

    from tasks.ttl.scans import Footprint, Quantiles
    from tasks.ttl.server_state import ServerState
    from tasks.ttl.store.scan_connection import ScanConnection

_FIELDS: Final = "Some keys have fields with a time to live of their own (HEXPIRE): those are not looked at."
_CLUSTER: Final = "This is one node of a cluster: keys on its other nodes are not in the figures."
_NO_SIZES: Final = "MEMORY USAGE is barred: sizes are not known."
_LFU: Final = "The server evicts what is used least often and keeps no idle times."
_NO_PRIMARY: Final = "The primary could not be asked: idle times would be those of a replica, and are left out."


def scan_cache(
    redis: Redis,
    prefixes: Mapping[str, str],
    options: ScanOptions | None = None,
    *,
    tick: Callable[[float, str], None] = lambda _share, _text: None,
) -> Scan:
    """Look at a sample of the keys in the database of `redis`, on a connection of the scan's own.

    `prefixes` names the family of each prefix (`tasks.ttl.prefixes.family_prefixes`); the longest that fits counts, and
    what begins with none is `other`. `tick` hears up to which share of its budget the scan is, at least once a second
    or so; whatever it raises ends the scan.

    Raises:
        ValueError: a prefix or a family is empty.
        TransientError: the server is away, or was restarted meanwhile.
        PermanentError: the user may not even SCAN or ask for INFO.
    """
    return _CacheScan(redis, Prefixes(prefixes), options or ScanOptions(), tick).run()


class _CacheScan:
    def __init__(
        self, redis: Redis, prefixes: Prefixes, options: ScanOptions, tick: Callable[[float, str], None]
    ) -> None:
        self._redis = redis
        self._prefixes = prefixes
        self._options = options
        self._tick = tick
        self._notes: list[str] = []

    def run(self) -> Scan:
        """Scan."""
        began_at = datetime.now(UTC)
        with ExitStack() as stack:
            given = stack.enter_context(scan_connection(self._redis))
            state = given.state()
            near = self._replica(stack, state) if self._options.use_replica and not state.is_replica else None
            bulk, bulk_state = near or (given, state)
            takes_idle = state.keeps_idle_times and not bulk_state.is_replica
            sample = Sample(self._prefixes)
            walk = Walk(bulk, bulk_state, Wanted(idle=takes_idle), sample, self._options, self._tick)
            footprint = walk.run()
            footprints = [footprint]
            idle: Mapping[str, Quantiles | None] = sample.idle_times()
            if bulk_state.is_replica and state.keeps_idle_times:
                primary = (given, state) if near else self._primary(stack, state)
                if primary is not None:
                    more, idle = self._idle_times(*primary)
                    footprints.append(more)
        families = [replace(one, idle_s=idle[one.family]) for one in sample.families(walk.total)]
        if any(one.sampled and one.size_bytes is None for one in families):
            self._notes.append(_NO_SIZES)
        return Scan(
            began_at=began_at,
            version=bulk_state.version,
            policy=bulk_state.policy,
            how=walk.how,
            place=footprint.place,
            ended=walk.ended,
            sampled=sample.keys,
            duplicates=sample.duplicates,
            vanished=walk.vanished,
            keys=walk.total,
            families=families,
            footprints=footprints,
            not_covered=_not_covered(bulk_state, state),
            notes=self._notes,
        )

    def _idle_times(
        self, connection: ScanConnection, state: ServerState
    ) -> tuple[Footprint, Mapping[str, Quantiles | None]]:
        """Ask the primary for the idle times of fewer keys: a replica only knows its own."""
        sample = Sample(self._prefixes)
        options = replace(self._options, budget_keys=min(self._options.idle_keys, self._options.budget_keys))
        footprint = Walk(connection, state, Wanted(ttl=False, size=False), sample, options, self._tick).run()
        return footprint, sample.idle_times()

    def _replica(self, stack: ExitStack, state: ServerState) -> tuple[ScanConnection, ServerState] | None:
        """Find a replica that can be asked in the place of the primary."""
        for address in state.replicas:
            found = self._other(stack, address)
            if found is not None and found[1].primary is not None:
                return found
            self._notes.append(f"The replica {address[0]}:{address[1]} could not be asked.")
        return None

    def _primary(self, stack: ExitStack, state: ServerState) -> tuple[ScanConnection, ServerState] | None:
        """Find the primary of a replica that we were pointed to."""
        found = self._other(stack, state.primary) if state.primary is not None else None
        if found is None or found[1].is_replica:
            self._notes.append(_NO_PRIMARY)
            return None
        return found

    def _other(self, stack: ExitStack, address: tuple[str, int]) -> tuple[ScanConnection, ServerState] | None:
        attempt = ExitStack()
        try:
            with attempt:
                connection = attempt.enter_context(scan_connection(self._redis, address))
                state = connection.state()
                stack.push(attempt.pop_all())
        except (TransientError, PermanentError):
            return None
        return connection, state


def _not_covered(*states: ServerState) -> list[str]:
    """Say what the figures leave out."""
    told: list[tuple[bool, Any]] = [
        (any(state.fields_expire for state in states), _FIELDS),
        (any(state.is_cluster for state in states), _CLUSTER),
        (not all(state.keeps_idle_times for state in states), _LFU),
    ]
    return [sentence for holds, sentence in told if holds]
