"""The crew that a verb speaks to: its settings, its database, its broker."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from workers.cli.output import CliError, ExitCode
from workers.settings import Settings, load_settings, secret_texts
from workers.supervisor.crew_file import NAME, read_record
from workers.supervisor.lock import is_running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from structlog.typing import EventDict

    from tasks.runtime import Runtime
    from workers.supervisor.crew_file import CrewRecord


@dataclass(frozen=True, kw_only=True)
class CrewContext:
    """What is known of the crew in a data directory; each part is opened when it is first asked for."""

    settings: Settings

    @cached_property
    def engine(self) -> Engine:
        """Its database.

        Raises:
            CliError: nothing has ever run in this data directory.
        """
        if not self.has_database:
            raise self._no_crew()
        from workers.database import create_engine

        return create_engine(
            self.settings.database_url,
            busy_timeout_s=self.settings.database.busy_timeout_s,
            statement_timeout_s=self.settings.database.statement_timeout_s,
        )

    @property
    def has_database(self) -> bool:
        """Whether there may be tables; a SQLite file that is not there has none."""
        scheme, _, path = self.settings.database_url.partition(":///")
        return scheme != "sqlite" or Path(path).exists()

    @cached_property
    def broker_url(self) -> str:
        """Its Redis: the one of the settings, else the one that the running crew has started.

        Raises:
            CliError: no crew runs there.
        """
        if self.settings.broker.url is not None:
            return self.settings.broker.url.get_secret_value()
        return self.running.broker_url

    @cached_property
    def running(self) -> CrewRecord:
        """What the running crew wrote about itself into `run/crew.json`.

        Raises:
            CliError: no crew runs there.
        """
        if (record := self.record()) is None:
            raise self._no_crew()
        return record

    @cached_property
    def runtime(self) -> Runtime:
        """What jobs are handed, for a verb that does their work here. Nothing of it needs to answer before it is used.

        Raises:
            CliError: see `engine`.
        """
        return replace(self.build_runtime(self.address_of(self.record())), engine=self.engine)

    def address_of(self, record: CrewRecord | None) -> str:
        """Its Redis, or where it will be once a crew runs: nobody answers there before."""
        if self.settings.broker.url is None and record is None:
            return f"unix://{quote(str(self.settings.data_dir / 'broker' / 'broker.sock'))}?db=0"
        return self.broker_url

    def build_runtime(self, broker_url: str) -> Runtime:
        """Make a runtime for a crew of which nothing needs to be there yet; the caller closes it."""
        from workers.lifecycle import build_runtime

        log_to_stderr(secret_texts(self.settings))
        name = f"cli-{os.getpid()}@{socket.gethostname()}"
        return build_runtime(self.settings, broker_url=broker_url, worker_name=name)

    def record(self) -> CrewRecord | None:
        """What the running crew wrote about itself; None when none runs.

        Raises:
            CliError: it cannot be read.
        """
        path = self.settings.data_dir / "run" / NAME
        try:
            record = read_record(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{path} cannot be read: {error}"
            raise CliError(msg, hint="stop the crew and run: nightcrew up", code=ExitCode.CONFIGURATION) from error
        return record if record is not None and is_running(record.pid) else None

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Have a broker during the block: where none runs, the crew's own is started, and nobody else.

        Raises:
            CliError: nothing has ever run in this data directory.
            SupervisorError: the broker does not start.
        """
        if self.settings.broker.url is not None or self.record() is not None:
            yield
            return
        if not (self.settings.data_dir / "broker").exists():
            raise self._no_crew()
        from workers.supervisor.crew import Crew

        with Crew(self.settings, with_flower=False, workers=lambda _settings, _env: []) as broker_alone:
            broker_alone.start()
            # The supervisor hears signals in a loop that does not run here: Ctrl-C is to end the block at once.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            self._forget()
            try:
                yield
            finally:
                self._forget()

    def close(self) -> None:
        """Give back what was opened; what is asked for afterwards is opened anew."""
        self._forget()
        if "engine" in vars(self):
            self.engine.dispose()

    def _forget(self) -> None:
        """Let go of the broker: the next question goes to the one that is there by then."""
        if "runtime" in vars(self):
            from workers.lifecycle import close_runtime

            close_runtime(self.runtime)
        for name in ("runtime", "running", "broker_url"):
            vars(self).pop(name, None)

    def _no_crew(self) -> CliError:
        return CliError(
            f"no crew runs in {self.settings.data_dir}",
            hint=f"start it with: nightcrew up --data-dir {self.settings.data_dir}",
            code=ExitCode.BROKER_UNREACHABLE,
        )


@contextmanager
def open_crew(data_dir: Path | None) -> Iterator[CrewContext]:
    """Read the settings, and close after the block what a verb has opened.

    Raises:
        SettingsError: the settings are wrong.
    """
    crew = CrewContext(settings=load_settings(data_dir))
    try:
        yield crew
    finally:
        crew.close()


def log_to_stderr(secrets: frozenset[str]) -> None:
    """Keep what jobs log off the results of a verb; a person needs to see warnings only, and nobody a secret."""
    import structlog

    from workers.observability import masking

    structlog.configure(
        processors=[
            _drop_details,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
            masking(secrets),
        ],
        # Looked up at each line: a standard error that was replaced meanwhile is the one to write to.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _drop_details(_logger: object, method: str, event: EventDict) -> EventDict:
    from structlog import DropEvent

    if method in {"debug", "info"}:
        raise DropEvent
    return event
