"""Who is in the crew, and how each is run and ended.

The stop steps add up to less than the 20 s that `nightcrew up` promises: beat, then workers and Flower
together, then the broker.
"""

from __future__ import annotations

import os
from signal import SIGQUIT, SIGTERM
from typing import TYPE_CHECKING, Final

from workers.celery_config import (
    WORKER_KIND_VARIABLE,
    beat_command,
    worker_command,
    worker_environment,
    worker_kinds,
)
from workers.supervisor import flower, notify
from workers.supervisor.child import ChildSpec, StopStep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from workers.settings import Settings
    from workers.supervisor.flower import FlowerAccess

BROKER: Final = "broker"
BEAT: Final = "beat"
FLOWER: Final = "flower"

BEAT_STOP: Final = (StopStep(signal=SIGTERM, wait_s=2.0),)
# Celery: TERM lets running jobs finish, QUIT gives them back to the queue.
WORKER_STOP: Final = (StopStep(signal=SIGTERM, wait_s=8.0), StopStep(signal=SIGQUIT, wait_s=2.0))
FLOWER_STOP: Final = (StopStep(signal=SIGTERM, wait_s=2.0),)
BROKER_STOP: Final = (StopStep(signal=SIGTERM, wait_s=5.0),)


def crew_environment(settings: Settings, *, broker_url: str, notify_path: Path) -> dict[str, str]:
    """Give the environment of the Celery processes: it, and no argument, carries the broker's address."""
    # Both are about another process: a worker that was meant alone, and a supervisor under systemd.
    foreign = {WORKER_KIND_VARIABLE, "WATCHDOG_USEC"}
    inherited = {name: value for name, value in os.environ.items() if name not in foreign}
    return {
        **inherited,
        "NIGHTCREW_DATA_DIR": str(settings.data_dir),
        "NIGHTCREW_BROKER__URL": broker_url,
        notify.VARIABLE: str(notify_path),
    }


def broker_spec(
    data_dir: Path, *, argv: tuple[str, ...], is_ready: Callable[[int], bool], lock_descriptor: int
) -> ChildSpec:
    """Describe the embedded broker; it holds the lock of the data directory as long as it lives."""
    return ChildSpec(
        name=BROKER,
        argv=argv,
        env={name: os.environ[name] for name in ("PATH", "TZ", "LANG", "LC_ALL") if name in os.environ},
        cwd=data_dir / "broker",
        log=_log(data_dir, BROKER),
        stop_steps=BROKER_STOP,
        probe=is_ready,
        keep_open=(lock_descriptor,),
    )


def worker_specs(settings: Settings, env: Mapping[str, str]) -> list[ChildSpec]:
    """Describe the workers and beat."""
    workers = [
        _celery_spec(
            settings, f"worker-{kind}", worker_command(kind, settings), {**env, **worker_environment(kind)}, WORKER_STOP
        )
        for kind in worker_kinds(settings)
    ]
    return [*workers, _celery_spec(settings, BEAT, beat_command(settings), env, BEAT_STOP)]


def flower_spec(settings: Settings, env: Mapping[str, str], access: FlowerAccess) -> ChildSpec:
    """Describe Flower, which may have a user of its own at the broker: a page needs less than a worker."""
    own = settings.flower.broker_url
    address = {} if own is None else {"NIGHTCREW_BROKER__URL": own.get_secret_value()}
    return _celery_spec(
        settings,
        FLOWER,
        flower.ARGV,
        flower.flower_environment(access, {**env, **address}),
        FLOWER_STOP,
        probe=lambda pid: flower.is_listening(pid, port=access.port),
    )


def _celery_spec(
    settings: Settings,
    name: str,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    stop_steps: tuple[StopStep, ...],
    *,
    probe: Callable[[int], bool] | None = None,
) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=argv,
        env=env,
        # Celery puts the current directory on the import path: that of an app may have a `tasks` of its own.
        cwd=settings.data_dir / "run",
        log=_log(settings.data_dir, name),
        stop_steps=stop_steps,
        probe=probe,
    )


def _log(data_dir: Path, name: str) -> Path:
    return data_dir / "logs" / f"{name}.log"
