"""Copies of a restored dump that must be rejected: changed by a server that wrote them anew, or in their bytes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from nightcrew import wire
from tasks.backups.drills.subjects import Mutant
from tasks.backups.quarantine import DIRECTORY
from tasks.backups.store.drills.copies import chance, copy_file, flip_bit, trial_directory
from tasks.backups.store.private_redis import private_redis
from tasks.backups.store.rdb_files import RdbForeignError, server_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from random import Random

    import redis

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Check
    from tasks.backups.manifest import Redis
    from tasks.backups.staging import Progress
    from tasks.backups.store.private_redis import PrivateRedis

    Examine = Callable[[Subject, Progress], Sequence[Check]]
    Change = Callable[[redis.Redis, "_Keys"], None]
    Harm = Callable[[Path], None]

_MOST_LISTED: Final = 10_000
"""Of the keys of a dump, to choose one of."""
_BITS: Final = 8
_PARTITIONS: Final = 64
_LAST_MS: Final = 10**15
_STRANGER: Final = "nightcrew:drill:stranger"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """What can be damaged in the database of a dump that has the most keys."""

    one: bytes | None
    text: bytes | None
    """A key of the type string without a time to live; None: there is none."""
    mortal: bytes | None
    """A key with a time to live."""


def mutants_of(subject: Subject, server: Redis, examine: Examine, progress: Progress) -> Sequence[Mutant]:
    """Name the ways to damage the dump of a server.

    Raises:
        TransientError: the machine was in the way.
        PermanentError: no program here reads it.
    """
    trials = _Trials(subject=subject, server=server, examine=examine, progress=progress)
    keys = trials.look_for_keys()
    return [
        *(trials.by_change(name, change, keys) for name, change in _changes(server, subject, keys).items()),
        *(trials.by_harm(name, harm) for name, harm in _BY_BYTES.items()),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    subject: Subject
    server: Redis
    examine: Examine
    progress: Progress

    @property
    def _file(self) -> str:
        return f"{DIRECTORY}/{self.server.name}.rdb"

    def look_for_keys(self) -> _Keys:
        """Choose what is damaged, now: which keys a server still shows depends on the hour."""
        found: list[_Keys] = []
        random = chance(self.subject, f"redis.{self.server.name}")
        self._with_server(
            self.subject.restored / self._file, self._number, lambda _, client: found.append(_keys(client, random))
        )
        return found[0]

    def by_change(self, damage: str, change: tuple[Change, str], keys: _Keys) -> Mutant:
        done, not_possible = change
        number = 0 if done in _OF_THE_LOG else self._number
        return self._mutant(
            damage,
            lambda copy: self._rewrite(copy, number, lambda client: done(client, keys)),
            not_possible=not_possible,
        )

    def by_harm(self, damage: str, harm: Callable[[Path, Random], None]) -> Mutant:
        return self._mutant(damage, lambda copy: harm(copy, chance(self.subject, f"redis.{damage}")))

    def _mutant(self, damage: str, harm: Harm, *, not_possible: str = "") -> Mutant:
        name = f"redis.{self.server.name}.{damage}"
        return Mutant(name=name, artefact="redis", trial=lambda: self._try(harm), not_possible=not_possible)

    def _try(self, harm: Harm) -> Sequence[Check]:
        alone = self.subject.manifest.model_copy(update={"redis": (self.server,)})
        with trial_directory(self.subject.scratch) as directory:
            copy = directory / self._file
            copy_file(self.subject.restored / self._file, copy, self.progress)
            harm(copy)
            looked = self.examine(replace(self.subject, restored=directory, manifest=alone), self.progress)
        # Of a mutant it is known that the log was right before: what would be something to look at is a difference.
        return [
            replace(check, differences=(check.unable,), unable="")
            if check.name.endswith(".log") and check.unable
            else check
            for check in looked
        ]

    @property
    def _number(self) -> int:
        """The database with the most keys."""
        largest = max(self.server.databases, key=lambda one: one.keys, default=None)
        return 0 if largest is None else largest.number

    def _rewrite(self, copy: Path, number: int, change: Callable[[redis.Redis], None]) -> None:
        """Have a server load the dump, change something, and write it anew."""

        def rewrite(server: PrivateRedis, client: redis.Redis) -> None:
            client.config_set("replica-read-only", "no")
            change(client)
            client.save()
            # No link to the copy any more: the server has put its own file there.
            shutil.copyfile(server.socket.parent / "dump.rdb", copy)

        self._with_server(copy, number, rewrite)

    def _with_server(self, dump: Path, number: int, do: Callable[[PrivateRedis, redis.Redis], None]) -> None:
        """Load a dump with the first program that reads it.

        Raises:
            RdbForeignError: none does.
        """
        refusal: RdbForeignError | None = None
        for program in server_programs():
            try:
                server = private_redis(program, dump, limits=self.subject.limits, progress=self.progress)
                with server as running, running.client(number) as client:
                    do(running, client)
            except RdbForeignError as error:
                refusal = error
            else:
                return
        if refusal is not None:
            raise refusal


def _keys(client: redis.Redis, random: Random) -> _Keys:
    listed: list[bytes] = []
    for key in client.scan_iter(count=1_000):
        listed.append(key)
        if len(listed) >= _MOST_LISTED:
            break
    listed.sort()
    random.shuffle(listed)
    mortal = next((key for key in listed if client.pttl(key) != -1), None)
    immortal = (key for key in listed if client.pttl(key) == -1)
    text = next((key for key in immortal if client.type(key) == b"string"), None)
    return _Keys(one=listed[0] if listed else None, text=text, mortal=mortal)


def _changes(server: Redis, subject: Subject, keys: _Keys) -> Mapping[str, tuple[Change, str]]:
    """Name the changes, each with why it cannot be done."""
    whole = sum(one.keys for one in server.databases)
    empty = "" if whole else "the dump has no key"
    one = "" if keys.one is not None else "no key of the dump is shown any more: their time is over"
    texts = "" if keys.text is not None else "there is no key of the type string that stays"
    mortals = "" if keys.mortal is not None else "no key has a time to live that is not over"
    has_log = any(one.epoch and one.last_id != "0-0" for one in subject.manifest.log_positions)
    log = "" if server.name == "broker" and has_log else "the dump has no usage log that the database has read"
    return {
        "drop-a-key": (_drop_a_key, one),
        "add-a-key": (_add_a_key, ""),
        "change-a-text": (_change_a_text, texts),
        "change-a-type": (_change_a_type, texts),
        "let-a-key-stay": (_let_a_key_stay, mortals),
        "lose-every-key": (_lose_every_key, empty),
        "another-log": (_another_log, log),
        "a-log-that-ends-too-early": (_end_the_log, log),
        "a-log-that-begins-too-late": (_forget_the_log, log),
    }


def _known(key: bytes | None) -> bytes:
    """Give a key that a change was said to be possible with."""
    if key is None:
        msg = "the change was said to be impossible"
        raise ValueError(msg)
    return key


def _drop_a_key(client: redis.Redis, keys: _Keys) -> None:
    client.delete(_known(keys.one))


def _add_a_key(client: redis.Redis, _keys: _Keys) -> None:
    client.set(_STRANGER, "1")


def _change_a_text(client: redis.Redis, keys: _Keys) -> None:
    old = cast("bytes", client.get(_known(keys.text)))
    client.set(_known(keys.text), bytes([old[0] ^ 1]) + old[1:] if old else b"1")


def _change_a_type(client: redis.Redis, keys: _Keys) -> None:
    client.delete(_known(keys.text))
    client.rpush(_known(keys.text), "1")


def _let_a_key_stay(client: redis.Redis, keys: _Keys) -> None:
    client.persist(_known(keys.mortal))


def _lose_every_key(client: redis.Redis, _keys: _Keys) -> None:
    client.flushall()


def _another_log(client: redis.Redis, _keys: _Keys) -> None:
    client.hset(wire.USAGE_META, "epoch", "0" * 32)


def _end_the_log(client: redis.Redis, _keys: _Keys) -> None:
    for stream in client.scan_iter(match=wire.usage_stream(0).replace(":0", ":*"), _type="stream"):
        client.delete(stream)


def _forget_the_log(client: redis.Redis, _keys: _Keys) -> None:
    for partition in range(_PARTITIONS):
        client.hset(wire.USAGE_META, f"forgotten:{partition}", f"{_LAST_MS}-0")


_OF_THE_LOG: Final = (_another_log, _end_the_log, _forget_the_log)
"""These are in database 0, where apps write the log."""


def _flip_bit(copy: Path, random: Random) -> None:
    flip_bit(copy, random.randrange(copy.stat().st_size), random.randrange(_BITS))


def _truncate(copy: Path, random: Random) -> None:
    with copy.open("r+b") as file:
        file.truncate(random.randrange(copy.stat().st_size))


def _lose(copy: Path, _random: Random) -> None:
    copy.unlink()


_BY_BYTES: Final[Mapping[str, Callable[[Path, Random], None]]] = {
    "flip-a-bit": _flip_bit,
    "truncate": _truncate,
    "lose-the-file": _lose,
}
