"""Celery's consumer, made so that every message which cannot become a job is kept before it is acknowledged.

The transport has let pass only what has the form of a task message. Here it turns out whether anyone does such a
task, and whatever else a message makes Celery raise ends as a dead letter instead of ending the worker.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from celery import bootsteps as untyped_bootsteps
from celery.platforms import EX_FAILURE
from celery.worker import state as untyped_state
from celery.worker.consumer import Consumer
from kombu.utils.json import dumps

from workers.celery_config import TASK_QUEUES
from workers.envelope import letter_of_item, utc_now
from workers.transport import connection_errors

if TYPE_CHECKING:
    from collections.abc import Callable

# The stubs lack their states.
bootsteps: Any = untyped_bootsteps
worker_state: Any = untyped_state

_log = structlog.get_logger(__name__)


class CrewConsumer(Consumer):
    """The consumer of the crew's workers."""

    # Set by Celery; its stubs do not say so.
    pool: Any
    controller: Any
    task_consumer: Any

    # The main thread has left Redis for good and waits for the pool: only then may a signal handler use the channel.
    _waits_for_pool = False

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Guard what Celery does with a message; lost connections stay Celery's business."""
        receive: Callable[[Any], None] = super().create_task_handler(*arguments, **options)
        lost = connection_errors()

        def receive_guarded(message: Any) -> None:
            if self._is_stopping():
                # A closing channel still delivers what BRPOP had taken, and the pool takes nothing more.
                message.requeue()
                return
            try:
                receive(message)
            except lost:
                raise
            except Exception as error:  # noqa: BLE001  whatever a message makes Celery raise is about the message
                if self._is_stopping():  # unless the pool was closed meanwhile
                    message.requeue()
                else:
                    self._bury(message, f"{type(error).__name__}: {error}")

        return receive_guarded

    def cancel_active_requests(self) -> None:
        """Let go of the jobs at hand; Celery calls this in the signal handler of a cold shutdown.

        Celery 5.6 fails here with a pool of threads, which cannot be killed, and then waits for them. Instead their
        messages go back to the queue and the process ends with its threads; their transactions never happened.
        """
        if self.pool.signal_safe:
            super().cancel_active_requests()
        elif self._waits_for_pool:
            self._end_with_threads()
        else:
            # The main thread may be amid a command to Redis, or hold a lock of the pool. `terminate` or `stop` follows
            # when it does not. Until then Celery stops the pool, which is to be one that nobody works in.
            self.pool.executor = ThreadPoolExecutor(max_workers=1)

    def stop(self) -> None:
        """Take nothing more from the queues; the worker waits for its pool after this, unless patience is over."""
        super().stop()
        self._waits_for_pool = True
        if worker_state.should_terminate and not self.pool.signal_safe:
            # QUIT came between TERM and this line.
            self._end_with_threads()

    def shutdown(self) -> None:
        """Close the connection: the pool has ended, and the main thread is with Redis again."""
        self._waits_for_pool = False
        super().shutdown()

    def terminate(self) -> None:
        """End without waiting for jobs."""
        if not self.pool.signal_safe:
            self._end_with_threads()
        self.stop()

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        """Keep what is no task message."""
        self._bury(message, "no task message")

    def on_unknown_task(self, _body: Any, message: Any, _error: Exception) -> None:
        """Keep a task that nobody here does: an app may be newer than the crew."""
        self._bury(message, f"no job of the kind {message.headers.get('task')!r:.80}")

    def on_invalid_task(self, _body: Any, message: Any, error: Exception) -> None:
        """Keep a task that Celery refuses."""
        self._bury(message, f"refused by Celery: {error}")

    def on_decode_error(self, message: Any, error: Exception) -> None:
        """Keep what cannot be decoded. Broadcasts come here as well, and those are dropped."""
        self._bury(message, f"cannot be decoded: {error}")

    def _is_stopping(self) -> bool:
        if worker_state.should_terminate or worker_state.should_stop is not None:
            return True
        return any(blueprint.state != bootsteps.RUN for blueprint in (self.blueprint, self.controller.blueprint))

    def _end_with_threads(self) -> NoReturn:
        # Closing also takes in what BRPOP may still bring, and puts it back with the rest; that takes up to a second.
        if self.task_consumer is not None:
            self.task_consumer.channel.close()
        _log.warning("worker.ended_early", reason="jobs were still running when patience was over")
        logging.shutdown()
        os._exit(EX_FAILURE)

    def _bury(self, message: Any, reason: str) -> None:
        queue = message.delivery_info.get("routing_key")
        if queue not in TASK_QUEUES:
            _log.warning("wire.broadcast_refused", reason=reason)
            return
        item = dumps(message._raw).encode()  # noqa: SLF001  the envelope as it came; there is no other name for it
        letter = letter_of_item(item, source=queue, reason=reason, received_at=utc_now())
        message.channel.write_dead_letter(letter)
        if not message.acknowledged:
            message.ack()
