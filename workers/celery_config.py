"""How Celery is set up, each number with its reason, and the command line of each process.

Pure: no environment, no connection, no import of Celery, so that the supervisor can ask for the commands at no cost.

A worker process serves one kind of work. Celery reads its configuration before it reads the command line, so the
kind comes by the environment: `NIGHTCREW_WORKER_KIND`, see `worker_environment`. Every other process (beat, Flower)
goes without.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from workers.settings import Settings

WorkerKind = Literal["usage", "ledger", "backups", "analysis"]

WORKER_KINDS: Final[tuple[WorkerKind, ...]] = ("usage", "ledger", "backups", "analysis")
WORKER_KIND_VARIABLE: Final = "NIGHTCREW_WORKER_KIND"

EXCHANGE: Final = "nightcrew"
QUEUES: Final[dict[WorkerKind, str]] = {kind: f"nightcrew.{kind}" for kind in WORKER_KINDS}
TASK_QUEUES: Final = frozenset(QUEUES.values())

# By hand: an import that is not written down is a job that nobody finds when it is missing.
JOB_MODULES: Final = ("tasks.usage.jobs", "tasks.ledger.jobs", "tasks.backups.jobs", "tasks.ttl.jobs")

VISIBILITY_TIMEOUT_S: Final[dict[WorkerKind, int]] = {
    # The shortest one among workers that share their unacked keys wins, so each kind has keys of its own. It must be
    # over twice the longest countdown (60 s, `tasks.job`): a message that waits for its time is held unacknowledged
    # and would go to a second worker. Jobs of both kinds take seconds; one that takes longer is delivered twice, which
    # offset (usage) and claim (ledger) make harmless. What a killed worker held is back after this plus one sweep;
    # the minute's drain and the expired lease bring the work back sooner.
    "usage": 180,
    "ledger": 180,
    # A backup takes hours, and a second copy of its message only wakes a worker to find it claimed. What a killed
    # worker held comes back by its lease, as everywhere.
    "backups": 6 * 60 * 60,
    # Studies, imports and exports take minutes to an hour; the same holds.
    "analysis": 2 * 60 * 60,
}

OPTIONAL_ENTRIES: Final = "timetable_optional_entries"
"""Key of the configuration under which beat finds the entries that the settings choose."""

_LEDGER_THREADS: Final = 2
"""A canary or a slot need not wait for the reconcile of the minute."""

_CELERY: Final = (sys.executable, "-m", "celery", "--quiet", "-A", "workers.app")  # quiet: no banner between log lines


def celery_options(broker_url: str, *, worker_kind: WorkerKind | None, data_dir: Path) -> dict[str, Any]:
    """Give the configuration of the Celery app of a process; `broker_url` as kombu spells it."""
    return {
        "broker_url": broker_url,
        "broker_transport_options": _transport_options(worker_kind),
        "include": JOB_MODULES,
        **_CONNECTION,
        **_DELIVERY,
        **_WORKER,
        **_CLOCK,
        "beat_schedule_filename": str(data_dir / "beat-schedule.json"),
        **_BEAT,
    }


def worker_command(kind: WorkerKind, settings: Settings) -> tuple[str, ...]:
    """Give the command that starts the worker of a kind."""
    pool, concurrency = _pool(kind, settings)
    return (
        *_CELERY,
        "worker",
        f"--hostname={kind}@%h",
        f"--queues={QUEUES[kind]}",
        f"--pool={pool}",
        f"--concurrency={concurrency}",
        # Workers need not know of one another: two channels less that can break, and a second less at the start.
        "--without-gossip",
        "--without-mingle",
    )


def worker_kinds(settings: Settings) -> tuple[WorkerKind, ...]:
    """Give the kinds of work that this crew does."""
    return tuple(kind for kind in WORKER_KINDS if kind != "backups" or settings.backups.enabled)


def worker_environment(kind: WorkerKind) -> dict[str, str]:
    """Give what the environment of a worker must have besides the settings."""
    return {WORKER_KIND_VARIABLE: kind}


def beat_command(settings: Settings) -> tuple[str, ...]:
    """Give the command that starts beat. One per crew; a second one does no harm (`schedules.fire` finds the slot)."""
    return (*_CELERY, "beat", f"--schedule={settings.data_dir / 'beat-schedule.json'}")


def unacked_key(kind: WorkerKind) -> str:
    """Name the hash of the messages that workers of a kind hold; its sorted index is the same name with `:index`."""
    return f"nightcrew:unacked:{kind}"


def _pool(kind: WorkerKind, settings: Settings) -> tuple[str, int]:
    """Choose how jobs run beside one another.

    No kind has a job that must be killed (a backup ends its programs at the next checkpoint), so threads do, at one
    process instead of two and no fork. Where the settings ask for more than one process, they get processes: merging
    counts is Python, and threads share one core. Backups wait for one another anyway.
    """
    processes = {"usage": settings.usage.drain_workers, "ledger": settings.ledger.worker_processes}.get(kind, 1)
    if processes > 1:
        return "prefork", processes
    return "threads", _LEDGER_THREADS if kind == "ledger" else 1


def _transport_options(worker_kind: WorkerKind | None) -> dict[str, Any]:
    """Give the options of kombu's Redis transport (kombu 5.7, `Channel.from_transport_options`)."""
    options: dict[str, Any] = {
        # Without it a publish on a half-open link waits for ever; BRPOP itself comes back each second.
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        # Measured on a half-open link: found after 11 s with 10, after 47 s with the default of 25.
        "health_check_interval": 10,
        # A sweep for abandoned messages each 5 s. The defaults make it one each 100 s: 93 s instead of 13 s measured.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # `retry_on_timeout` stays out: it repeats a write that may have happened, and turns batching off.
    }
    if worker_kind is not None:
        options |= {
            "unacked_key": unacked_key(worker_kind),
            "unacked_index_key": f"{unacked_key(worker_kind)}:index",
            "unacked_mutex_key": f"{unacked_key(worker_kind)}:mutex",
            "visibility_timeout": VISIBILITY_TIMEOUT_S[worker_kind],
        }
    return options


_CONNECTION: Final[dict[str, Any]] = {
    # A crew outlives its broker: never give up.
    "broker_connection_retry_on_startup": True,
    "broker_connection_retry": True,
    "broker_connection_max_retries": None,
    # A full server, or a key of a wrong type where a queue should be, is waited out; by default it ends the worker.
    "broker_channel_error_retry": True,
    # After a lost connection the broker gives the message to someone else; killing the first copy would kill jobs at
    # each blip, and the claim keeps the second from doing anything.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}

_DELIVERY: Final[dict[str, Any]] = {
    # Acknowledged when done, also when the process died over it. The attempt in the ledger ends what always kills.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    # Results and states are in the ledger; a result backend would only grow.
    "task_ignore_result": True,
    # JSON alone: pickle runs code.
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_default_exchange": EXCHANGE,
    "task_default_exchange_type": "direct",
    "task_default_queue": QUEUES["ledger"],
    # A misspelt queue would be a list that nobody reads.
    "task_create_missing_queues": False,
    # What jobs and the reconciler publish: soon given up, because the ledger publishes again what did not get through.
    "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
}

_WORKER: Final[dict[str, Any]] = {
    # Between transport and job stand our guards.
    "worker_consumer": "workers.consumer:CrewConsumer",
    # One message held per slot: a long job keeps nothing waiting that another worker could do.
    # `worker_disable_prefetch` stays out: 5.6 patches a channel that the next reconnect replaces.
    "worker_prefetch_multiplier": 1,
    # Events for Flower. Few also for usage: a doorbell rings once per partition however many counts there are.
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    # Structured logs are ours (`workers.observability`).
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    # TERM lets jobs end. QUIT, which comes after patience is over, leaves them half a second more, then gives
    # them back, which takes up to a second: together less than the 2 s after which the supervisor kills.
    "worker_soft_shutdown_timeout": 0.5,
    # Messages with a countdown, held in memory: bounded.
    "worker_eta_task_limit": 1000,
}

_CLOCK: Final[dict[str, Any]] = {"timezone": "UTC", "enable_utc": True}  # no slot twice or never when clocks change

_BEAT: Final[dict[str, Any]] = {
    "beat_scheduler": "workers.beat:TimetableScheduler",
    # Also how often the heartbeat is written, which expires after 60 s.
    "beat_max_loop_interval": 5,
    # The file is written after each entry: killed 2 s after a tick, beat sent it again with the default of 3 minutes.
    "beat_sync_every": 1,
    # `beat_cron_starting_deadline` stays unset: it skips in silence.
}
