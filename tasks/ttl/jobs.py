"""The ttl slice at the edge of Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nightcrew.messages import CollectAccess
from tasks.job import job
from tasks.ledger.retries import STANDARD
from tasks.ttl.operations import collect

if TYPE_CHECKING:
    from tasks.runtime import Runtime


@job(CollectAccess, retry=STANDARD)
def collect_access(_message: CollectAccess, runtime: Runtime) -> dict[str, Any]:
    """Bring the counters of the cache up to the end of the access log. Idempotent; several may run at once."""
    return collect(runtime).to_json()
