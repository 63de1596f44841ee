"""The usage slice at the edge of Celery."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nightcrew.messages import DrainUsage
from tasks.job import doorbell
from tasks.usage.operations import announce_partitions, drain_partition, forget_old, keep_partition, partitions
from tasks.usage.position import LogGapError

if TYPE_CHECKING:
    from tasks.runtime import Runtime


@doorbell(DrainUsage)
def drain_usage(message: DrainUsage, runtime: Runtime) -> None:
    """Drain one partition; as the timetable's safety net, every partition, and keep house after it."""
    if message.partition is not None:
        with suppress(LogGapError):  # kept as an incident; the minute's drain fails with it, a bell would each second
            drain_partition(runtime, message.partition)
        return
    announce_partitions(runtime)
    for partition in partitions(runtime):
        drain_partition(runtime, partition)
        keep_partition(runtime, partition)
    forget_old(runtime)
