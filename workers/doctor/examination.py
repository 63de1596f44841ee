"""Every check in order. What does not answer ends its own group of checks, and no other."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from nightcrew._redis import mask_url
from tasks.errors import CrewError
from workers.database import pending_migrations
from workers.doctor import machine_sight, server_sight, work_sight
from workers.doctor.backups import check_backups, check_engine
from workers.doctor.backups_sight import see_backups, see_engine
from workers.doctor.broker import check_broker, check_clock, redis_cli
from workers.doctor.database import check_journal, check_migrations
from workers.doctor.finding import Finding, error, ok, warning
from workers.doctor.machine import (
    check_crew,
    check_data_directory,
    check_disk,
    check_packages,
    check_python,
    check_secrets,
)
from workers.doctor.retention import check_kept
from workers.doctor.retention_sight import see_kept
from workers.doctor.work import check_combined, check_messages, check_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.doctor.backups import BackupFacts
    from workers.doctor.broker import BrokerFacts
    from workers.doctor.patient import Patient
    from workers.doctor.work import CombinedFacts, MessageFacts, TableFacts


@dataclass(slots=True, kw_only=True)
class Examination:
    """What was found, and the facts behind it; facts that could not be had are None."""

    findings: list[Finding] = field(default_factory=list)
    broker: BrokerFacts | None = None
    has_tables: bool = False
    """Whether the database answers, and its tables are those of this version."""
    messages: MessageFacts | None = None
    tables: TableFacts | None = None
    combined: CombinedFacts | None = None
    backups: BackupFacts | None = None
    """None also where the crew takes none."""


def examine(patient: Patient) -> Examination:
    """Make every check that can be made."""
    examination = examine_crew(patient)
    examination.findings[:0] = [*examine_installation(), *_examine_directory(patient)]
    return examination


def examine_installation() -> Iterator[Finding]:
    """Make the checks that need no settings."""
    wanted = machine_sight.see_wanted_python()
    running = sys.version_info[:3]
    yield check_python(running, str(wanted), fits=wanted.contains(".".join(map(str, running)), prereleases=True))
    yield check_packages(machine_sight.see_packages())


def examine_crew(patient: Patient) -> Examination:
    """Make the checks of what runs: supervisor, broker, database, work."""
    examination = Examination()
    facts = machine_sight.see_crew(machine_sight.crew_file(patient.settings))
    examination.findings.append(check_crew(facts, patient.limits, up=patient.up))
    _examine_broker(patient, examination)
    _examine_database(patient, examination)
    _examine_work(patient, examination)
    return examination


def _examine_directory(patient: Patient) -> Iterator[Finding]:
    settings = patient.settings
    yield check_data_directory(machine_sight.see_directory(settings.data_dir))
    yield check_disk(machine_sight.see_disk(settings.data_dir), patient.limits)
    yield check_secrets(machine_sight.see_exposed_secrets(settings))
    if settings.backups.enabled:
        yield check_engine(see_engine(settings.backups.engine), settings.backups.engine)


def _examine_broker(patient: Patient, examination: Examination) -> None:
    redis, url, limits = patient.runtime.redis, patient.broker_url, patient.limits
    try:
        facts = server_sight.see_broker(redis)
        skew = server_sight.broker_skew(redis, patient.runtime.clock)
    except (RedisError, OSError) as failure:
        named = patient.settings.broker.url is not None
        fix = f"{redis_cli(url)} ping   # or correct NIGHTCREW_BROKER__URL" if named else patient.up
        detail = f"no answer from {mask_url(url)}: {mask_url(str(failure))}"
        examination.findings.append(error("broker", detail, fix=fix))
        return
    examination.broker = facts
    examination.findings += [
        ok("broker", f"{mask_url(url)} answers"),
        *check_broker(facts, url, limits),
        check_clock("broker-clock", skew, limits, whose="the broker"),
    ]


def _examine_database(patient: Patient, examination: Examination) -> None:
    engine = patient.runtime.engine
    shown = engine.url.render_as_string(hide_password=True)
    path = server_sight.sqlite_file(engine)
    if path is not None and not path.exists():
        examination.findings.append(warning("database", f"{path} is not there yet", fix=patient.up))
        return
    try:
        is_wal = path is None or server_sight.is_in_wal_mode(path)
        pending = pending_migrations(engine)
        skew = server_sight.database_skew(engine, patient.runtime.clock)
    except (CrewError, OSError) as failure:
        examination.findings.append(error("database", f"{shown}: {failure}", fix=_database_fix(path)))
        return
    examination.has_tables = not pending
    examination.findings += [ok("database", f"{shown} answers"), check_migrations(pending, up=patient.up)]
    if path is not None:
        examination.findings.append(check_journal(path, is_wal=is_wal))
    examination.findings.append(check_clock("database-clock", skew, patient.limits, whose="the database"))


def _examine_work(patient: Patient, examination: Examination) -> None:
    """Look at what lies in the broker, in the database, and in both, as far as they answer."""
    runtime, limits = patient.runtime, patient.limits
    if examination.broker is not None:
        with _going_away("broker", examination):
            messages = work_sight.see_messages(runtime, patient.broker_url, answer_within_s=patient.answer_within_s)
            cli = redis_cli(patient.broker_url)
            findings = check_messages(messages, limits, partitions=runtime.usage.partitions, up=patient.up, cli=cli)
            examination.messages = messages
            examination.findings += findings
    if examination.has_tables:
        with _going_away("database", examination):
            examination.tables = work_sight.see_tables(
                runtime,
                patient.timetable,
                started_at=patient.started_at,
                incidents_since=runtime.clock() - limits.incident_memory,
            )
            examination.findings += check_tables(examination.tables, limits)
            examination.findings += check_kept(see_kept(runtime))
            if patient.settings.backups.enabled:
                examination.backups = see_backups(runtime)
                examination.findings += check_backups(examination.backups)
    if examination.messages is not None and examination.tables is not None:
        with _going_away("broker", examination):
            examination.combined = work_sight.see_combined(runtime)
            examination.findings += check_combined(examination.combined, limits)


@contextmanager
def _going_away(check: str, examination: Examination) -> Iterator[None]:
    """Make a finding of a server that answered a moment ago, and does no more."""
    try:
        yield
    except (RedisError, KombuError, CrewError, OSError) as failure:
        detail = f"went away while it was looked at: {failure}"
        examination.findings.append(error(check, detail, fix="nightcrew doctor"))


def _database_fix(path: Path | None) -> str:
    if path is None:
        return "psql \"$NIGHTCREW_DATABASE__URL\" -c 'SELECT 1'   # or correct that setting"
    return f"sqlite3 {quote(str(path))} 'PRAGMA quick_check'"
