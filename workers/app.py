"""The Celery app of every process of the crew: `celery -A workers.app …`.

The only module that does something when it is imported: it reads the settings and connects signals. The address of
the broker must be in `NIGHTCREW_BROKER__URL` (the supervisor puts it there) or in the settings; a worker also needs
`NIGHTCREW_WORKER_KIND`.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn, cast, get_args

from celery import Celery
from kombu import Exchange, Queue

from nightcrew import _redis
from nightcrew.errors import InvalidUrlError
from schedules.timetable import ENTRIES
from workers.beat_signing import give_signer
from workers.celery_config import EXCHANGE, OPTIONAL_ENTRIES, QUEUES, WORKER_KIND_VARIABLE, WorkerKind, celery_options
from workers.lifecycle import Lifecycle
from workers.observability import connect_logging
from workers.remote_control import refuse_orders
from workers.settings import Settings, SettingsError, load_settings
from workers.transport import install_transport

_EXIT_CONFIGURATION = 3


def create_app(settings: Settings, *, broker_url: str, worker_kind: WorkerKind | None) -> Celery:
    """Make the app of a process, with its signals connected."""
    install_transport()
    app = Celery("nightcrew")
    give_signer(app, settings.wire.guard().signer)
    app.conf.update(celery_options(_redis.kombu_url(broker_url), worker_kind=worker_kind, data_dir=settings.data_dir))
    if (encryption := _redis.tls_options(broker_url)) is not None:
        app.conf.broker_use_ssl = encryption  # kombu reads the address; Flower's page of the broker reads only this
    chosen = settings.timetable()
    app.conf[OPTIONAL_ENTRIES] = tuple(entry for entry in chosen.values() if entry not in ENTRIES)
    if worker_kind is not None:
        refuse_orders()
    exchange = Exchange(EXCHANGE, type="direct")
    app.conf.task_queues = tuple(Queue(name, exchange, routing_key=name) for name in QUEUES.values())
    connect_logging(settings, secrets=[broker_url, settings.database_url])
    Lifecycle(settings=settings, broker_url=broker_url, worker_kind=worker_kind).connect()
    return app


def _app_of_this_process() -> Celery:
    env = dict(os.environ)
    kind = env.pop(WORKER_KIND_VARIABLE, None) or None  # about the process, not a setting of the crew
    try:
        settings = load_settings(env=env)
        if kind is not None and kind not in get_args(WorkerKind):
            _refuse(f"{WORKER_KIND_VARIABLE} is {kind!r}: write one of {', '.join(get_args(WorkerKind))}")
        if settings.broker.url is None:
            _refuse("broker.url is not set: set NIGHTCREW_BROKER__URL, or run the whole crew with: nightcrew up")
        broker_url = settings.broker.url.get_secret_value()
        return create_app(settings, broker_url=broker_url, worker_kind=cast("WorkerKind | None", kind))
    except (SettingsError, InvalidUrlError) as error:
        _refuse(str(error))


def _refuse(problem: str) -> NoReturn:
    sys.stderr.write(f"nightcrew: {problem}\n")
    raise SystemExit(_EXIT_CONFIGURATION)


app = _app_of_this_process()
