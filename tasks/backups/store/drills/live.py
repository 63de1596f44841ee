"""Where a crew lives: the places that no drill may be done in, over or above."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tasks.backups.store.drills.sandbox import LivePlace
from tasks.errors import CrewError
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis
    from sqlalchemy import Engine

    from tasks.runtime import BackupOptions

_ELSEWHERE: Final = ("s3:", "rest:")


def live_places(options: BackupOptions, engine: Engine, redis: Redis) -> list[LivePlace]:
    """Name them, as far as settings and servers tell: a server that keeps its directory to itself is left out."""
    return [*_of_settings(options), *_of_database(engine), *_of_redis(redis)]


def _of_settings(options: BackupOptions) -> Iterator[LivePlace]:
    for vault in (options.vault, options.second_vault):
        if vault is not None:
            yield LivePlace(path=vault.password_file.parent, says="the keys of a vault", is_closed=True)
            if not vault.location.startswith(_ELSEWHERE):
                yield LivePlace(path=Path(vault.location), says="a vault", is_closed=True)
    for name in ("staging", "cache", "manifests", "pages"):
        yield LivePlace(path=options.directory / name, says="what backups keep", is_closed=True)
    for file in options.config_files:
        yield LivePlace(path=file.parent, says=f"the configuration {file.name}", is_closed=False)
    if options.model_file is not None:
        yield LivePlace(path=options.model_file.parent, says="the model", is_closed=False)


def _of_database(engine: Engine) -> Iterator[LivePlace]:
    if engine.dialect.name == "sqlite":
        if (name := engine.url.database) and name != ":memory:":
            yield LivePlace(path=Path(name), says="the database", is_closed=True)
            yield LivePlace(path=Path(name).parent, says="the database", is_closed=False)
        return
    with suppress(CrewError, DBAPIError), begin_read(engine) as connection:  # only some roles may know
        directory = connection.scalar(text("SHOW data_directory"))
        yield LivePlace(path=Path(str(directory)), says="the database server", is_closed=True)


def _of_redis(redis: Redis) -> Iterator[LivePlace]:
    with suppress(RedisError):  # a user of least privilege may not ask
        answer: Any = redis.config_get("dir")
        if directory := answer.get("dir"):
            name = directory.decode() if isinstance(directory, bytes) else str(directory)
            yield LivePlace(path=Path(name), says="the broker's data", is_closed=False)
