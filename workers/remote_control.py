"""What a worker does of Celery's remote control: it answers questions, and takes no orders.

Whoever may ask may publish on the same channel, and Redis cannot tell a question from an order: `cancel_consumer`
would keep a worker from its queue in silence, `revoke` would throw jobs away behind the ledger's back. The crew has
its own ways: the supervisor starts and ends workers, the ledger cancels jobs.
"""

from __future__ import annotations

from typing import Any, Final

from celery.worker import control

ANSWERED: Final = frozenset(
    {
        # What `nightcrew status` and Flower ask …
        *("ping", "stats", "conf", "active", "active_queues", "registered", "reserved", "scheduled", "revoked"),
        *("query_task", "report", "clock", "hello"),
        # … and what makes a worker show itself to a Flower that came later.
        *("enable_events", "heartbeat"),
    }
)


def refuse_orders() -> None:
    """Forget every other command in this process; who sends one gets an error, and the log of the worker has it."""
    panel: Any = control.Panel
    for name in panel.data.keys() - ANSWERED:
        del panel.data[name]
