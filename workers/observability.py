"""Logs: one line per event on standard error, as JSON for collectors or as text for people.

Fields of every line: `timestamp` (UTC, ISO 8601), `level`, `event`, `logger`, `service`, `version`, `host`, `pid`;
within a job also `task`, `task_id`, `queue`, `correlation_id`, `attempt`. Lines of Celery and other libraries get the
same fields. Arguments of jobs are never logged: they may be secrets.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import structlog
from celery import signals

from nightcrew import wire
from workers.settings import secret_texts
from workers.settings.urls import masked_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import EventDict, Processor, WrappedLogger

    from workers.settings import Settings

SERVICE: Final = "nightcrew"
_SHORTEST_SECRET: Final = 4
"""Shorter ones would make holes into words, and are guessed anyway."""


def connect_logging(settings: Settings, *, secrets: Iterable[str]) -> None:
    """Take the place of Celery's own set-up of logging, and name the job at hand in each line it causes.

    `secrets` are the addresses whose passwords must never be written, besides all that the settings keep secret.
    """
    passwords = _passwords(secrets) | secret_texts(settings)

    def configure(**_: Any) -> None:
        configure_logging(level=settings.log.level, format_name=settings.log.format, passwords=passwords)

    # Earlier than Celery would, so that a warning of its start is a line like all others.
    signals.celeryd_init.connect(configure, weak=False)
    signals.setup_logging.connect(configure, weak=False)
    signals.task_prerun.connect(_bind_task, weak=False)
    signals.task_postrun.connect(_unbind_task, weak=False)


_TWICE_TOLD: Final = ("celery.worker.strategy", "celery.app.trace")
"""At `info` these write that a task was received and that it succeeded: `job.started` and `job.ended` say more."""


def configure_logging(*, level: str, format_name: str, passwords: Iterable[str] = ()) -> None:
    """Send structlog and the standard library's logging to standard error, in one form."""
    as_console = format_name == "console" or (format_name == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _process_fields(),
    ]
    render: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if as_console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render, masking(passwords)],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TWICE_TOLD:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def masking(passwords: Iterable[str]) -> Callable[[WrappedLogger, str, Any], str]:
    """Make the last net: a processor that takes passwords out of the finished line, wherever they stand."""
    known = sorted({one for one in passwords if len(one) >= _SHORTEST_SECRET}, key=len, reverse=True)

    def mask(_logger: WrappedLogger, _method: str, line: Any) -> str:
        masked = masked_url(str(line))
        for password in known:
            masked = masked.replace(password, "***")
        return masked

    return mask


def _passwords(urls: Iterable[str]) -> frozenset[str]:
    """Give the passwords of addresses, as they are written there and as they are meant."""
    written = {urlsplit(url).password or "" for url in urls}
    return frozenset(written | {unquote(one) for one in written}) - {""}


def _process_fields() -> Processor:
    fields = {"service": SERVICE, "version": version("nightcrew-workers"), "host": socket.gethostname()}

    def add(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        # The id is asked for each time: children are forked.
        first = {name: event_dict.pop(name) for name in ("timestamp", "level", "event") if name in event_dict}
        return {**first, **fields, "pid": os.getpid(), **event_dict}

    return add


def _bind_task(task_id: str, task: Any, **_: Any) -> None:
    request = task.request
    headers = request.headers or {}
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(
        task_id=task_id,
        task=task.name,
        queue=(request.delivery_info or {}).get("routing_key"),
        correlation_id=headers.get(wire.HEADER_CORRELATION_ID) or task_id,
        attempt=request.retries + 1,
    )


def _unbind_task(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
