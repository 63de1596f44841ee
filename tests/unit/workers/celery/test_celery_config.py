"""The configuration of Celery, and the commands of its processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kombu.transport import redis as kombu_redis

from nightcrew.messages import kinds, message_type
from tasks.job import LONGEST_COUNTDOWN
from tasks.ledger.store import queues
from workers.celery_config import (
    QUEUES,
    TASK_QUEUES,
    VISIBILITY_TIMEOUT_S,
    WORKER_KINDS,
    WorkerKind,
    beat_command,
    celery_options,
    unacked_key,
    worker_command,
    worker_environment,
)
from workers.envelope import LONGEST_ETA
from workers.settings import Settings

SETTINGS = Settings(data_dir=Path("/d"))
POSTGRESQL = {"url": "postgresql://localhost/nightcrew"}


@pytest.mark.parametrize("kind", WORKER_KINDS)
def test_every_option_of_the_transport_is_one(kind: WorkerKind) -> None:
    """Kombu passes over a misspelt option in silence."""
    options = celery_options("redis://", worker_kind=kind, data_dir=Path("/d"))["broker_transport_options"]
    assert set(options) <= set(kombu_redis.Channel.from_transport_options)


def test_workers_of_two_kinds_share_no_unacked_key() -> None:
    """The shortest visibility timeout wins among those that share them."""
    each = [celery_options("redis://", worker_kind=kind, data_dir=Path("/d")) for kind in WORKER_KINDS]
    keys = [options["broker_transport_options"][name] for options in each for name in _UNACKED]
    assert len(set(keys)) == len(keys)


_UNACKED = ("unacked_key", "unacked_index_key", "unacked_mutex_key")


@pytest.mark.parametrize("kind", WORKER_KINDS)
def test_the_ledger_looks_where_the_workers_keep_what_they_hold(kind: WorkerKind) -> None:
    """The name of the hash is known on both sides."""
    assert queues.unacked_key(QUEUES[kind]) == unacked_key(kind)


@pytest.mark.parametrize("kind", WORKER_KINDS)
def test_a_countdown_ends_long_before_the_message_goes_to_someone_else(kind: WorkerKind) -> None:
    """A message that waits in one worker past the visibility timeout is given to another as well."""
    assert LONGEST_COUNTDOWN.total_seconds() < VISIBILITY_TIMEOUT_S[kind] / 2
    assert LONGEST_COUNTDOWN < LONGEST_ETA


def test_every_message_has_a_worker() -> None:
    """A queue that no worker serves would fill for ever."""
    assert {message_type(kind).queue for kind in kinds()} == TASK_QUEUES


def test_one_drain_is_a_thread_and_several_are_processes() -> None:
    """Merging counts is Python: threads share one core."""
    several = Settings.model_validate({"data_dir": "/d", "database": POSTGRESQL, "usage": {"drain_workers": 3}})
    assert {"--pool=threads", "--concurrency=1"} <= set(worker_command("usage", SETTINGS))
    assert {"--pool=prefork", "--concurrency=3"} <= set(worker_command("usage", several))


def test_a_worker_serves_the_queue_of_its_kind_under_its_name() -> None:
    """Flower and the logs show which worker is meant."""
    command = worker_command("ledger", SETTINGS)
    assert {"--hostname=ledger@%h", "--queues=nightcrew.ledger"} <= set(command)
    assert worker_environment("ledger") == {"NIGHTCREW_WORKER_KIND": "ledger"}


def test_no_command_carries_an_address() -> None:
    """Arguments can be read by every user of the machine."""
    secret = Settings.model_validate({"data_dir": "/d", "broker": {"url": "redis://:canary@h/0"}})
    commands = [*(worker_command(kind, secret) for kind in WORKER_KINDS), beat_command(secret)]
    assert not any("canary" in part for command in commands for part in command)


def test_the_commands_can_be_had_without_celery() -> None:
    """The supervisor must not pay for an import it does not need."""
    code = "import sys, workers.celery_config; print('celery' in sys.modules, 'kombu' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["False", "False"]
