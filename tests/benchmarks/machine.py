"""The facts without which no number means anything."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import Redis


def machine_facts(redis: Redis) -> dict[str, str]:
    """Say where this runs, and how busy it was before the run."""
    server: Any = redis.info("server")
    return {
        "cores": str(os.cpu_count()),
        "load before": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "redis": server["redis_version"],
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("celery", "kombu", "redis", "hiredis", "sqlalchemy") if name != "redis"},
        "redis-py": version("redis"),
    }
