"""Canary secrets are given to a crew, everything that can go wrong is made to, and then they are looked for.

Not looked at: the environment of processes, which is where secrets are handed over (only their user can read it), and
what the operator was given on purpose (`flower.password`, mode 600).
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import psutil
import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, wire
from nightcrew.errors import NightcrewError
from nightcrew.messages import DrainUsage, FireSchedule, ReconcileLedger, RunCanary
from nightcrew.signing import SigningKey
from tests.support import wait_until
from tests.support.canaries import Canary, find_leaks
from tests.support.pages import Pages
from tests.support.processes import short_directory
from tests.support.secured_redis import SecuredRedis, running_secured_redis
from workers.database import create_engine
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

BROKER = Canary.make("password of the worker")
VIEWER = Canary.make("password of the viewer")
PRODUCER = Canary.make("password of the producer")
DATABASE = Canary.make("password of the database")
WRONG = Canary.make("wrong password")
SIGNING_DECODED = Canary(name="signing key, decoded", secret=secrets.token_hex(18))
SIGNING = Canary(name="signing key", secret=base64.urlsafe_b64encode(SIGNING_DECODED.secret.encode()).decode())
PING = Canary(name="key of the pings", secret=f"canary-{secrets.token_hex(16)}")
ENTRY_PING = Canary(name="key of the pings of an entry", secret=f"canary-{secrets.token_hex(16)}")
CANARIES = (BROKER, VIEWER, PRODUCER, DATABASE, WRONG, SIGNING, SIGNING_DECODED, PING, ENTRY_PING)

VERBS = (
    *("status", "doctor", "config show", "config show --origin", "config validate", "jobs list", "jobs dead"),
    *("schedule list", "enqueue ledger.canary"),
)
DONE = "<done>"
RUN_VERBS = f"""
import json, os, sys, traceback
from workers.cli.verbs import run
for arguments, env in json.load(sys.stdin):
    os.environ.update(env)
    try:
        run(arguments)
    except BaseException:
        traceback.print_exc()
    print({DONE!r}, flush=True)
"""
FLOWER_STARTS = (
    "",
    "workers?refresh=1",
    "tasks",
    "broker",
    "metrics",
    "api/workers?refresh=1",
    "api/tasks",
    "api/task/types",
)
MOST_PAGES = 60


@dataclass(kw_only=True)
class Scene:
    """A crew with secrets, and everything it was seen to say."""

    data_dir: Path
    server: SecuredRedis
    env: dict[str, str]
    texts: dict[str, str] = field(default_factory=dict)

    def note(self, place: str, text: str) -> None:
        self.texts[f"{place} #{len(self.texts)}"] = text

    def app(self, url: str | None = None, *, signing_key: str | None = None, timeout_s: float = 5) -> Nightcrew:
        """Give an app that signs with the key of the crew, unless it is given another."""
        key = f"one:{SIGNING.secret}" if signing_key is None else signing_key
        return Nightcrew(url or self.server.url_of("producer"), signing_key=key, timeout_s=timeout_s)

    def run(self, *commands: str) -> None:
        """Run verbs one after the other in a process of their own, and keep what they print."""
        self.run_each([(command, {}) for command in commands])

    def run_each(self, commands: Sequence[tuple[str, Mapping[str, str]]]) -> None:
        """Run verbs, each with some settings more."""
        lines = [
            ([*command.split(), "--data-dir", str(self.data_dir)], {**self.env, **more}) for command, more in commands
        ]
        ended = subprocess.run(
            [sys.executable, "-c", RUN_VERBS],
            env={**os.environ, **self.env},
            input=json.dumps(lines),
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert ended.stdout.count(DONE) == len(commands), ended.stdout + ended.stderr
        for (command, _), printed in zip(commands, ended.stdout.split(DONE), strict=False):
            self.note(command, printed)
        self.note("errors of verbs", ended.stderr)


@pytest.fixture
def database(pg_url: str) -> str:
    """Give the address with a password, which this server does not ask for."""
    url = sa.make_url(pg_url).set(password=DATABASE.secret, drivername="postgresql")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def scene(database: str) -> Iterator[Scene]:
    passwords = {"worker": BROKER.secret, "viewer": VIEWER.secret, "producer": PRODUCER.secret}
    with short_directory() as directory, running_secured_redis(passwords=cast("Any", passwords)) as server:
        env = {
            "NIGHTCREW_BROKER__URL": server.url_of("worker"),
            "NIGHTCREW_FLOWER__BROKER_URL": server.url_of("viewer"),
            "NIGHTCREW_DATABASE__URL": database,
            "NIGHTCREW_LOG__LEVEL": "debug",
            "NIGHTCREW_WIRE__SIGNING_KEYS": json.dumps([f"one:{SIGNING.secret}"]),
            "NIGHTCREW_SCHEDULE__PING_URL": f"http://127.0.0.1:1/{PING.secret}/{{entry}}",
            "NIGHTCREW_SCHEDULE__PING_URLS": json.dumps({"usage-drain": f"http://127.0.0.1:1/{ENTRY_PING.secret}"}),
        }
        yield Scene(data_dir=directory / "crew", server=server, env=env)


@pytest.mark.timeout(600)
def test_no_secret_shows_anywhere(scene: Scene, database: str) -> None:
    """In no log, page, process list, file, error, `repr` or row, in no spelling."""
    with CrewProcess(scene.data_dir, env=scene.env) as crew:
        pages = Pages.of_crew(scene.data_dir, crew.wait_ready())
        look_at_secrets_in_use(crew)
        look_at_processes(scene, crew)
        provoke(scene, crew, database)
        crawl(scene, pages)
        scene.run(*VERBS, *(f"{verb} --json" for verb in VERBS))
        wait_until(lambda: entries_pinged(scene) == {"usage-drain", "ledger-reconcile"}, timeout_s=90, what="pings")
        look_at_processes(scene, crew)
    fail_to_connect(scene, database)
    look_at_objects(scene)
    look_at_rows(scene, database)
    look_at_files(scene)
    assert len(scene.texts) > 60, "there was next to nothing to search"
    assert find_leaks(CANARIES, scene.texts) == []


def look_at_secrets_in_use(crew: CrewProcess) -> None:
    """Make sure that the crew has the secrets which are looked for later: in its environment, where they may be."""
    worker = psutil.Process(crew.wait_ready().children["worker-ledger"])
    handed_over = "\n".join(worker.environ().values())
    used = (BROKER, DATABASE, SIGNING, PING, ENTRY_PING)
    assert [canary.name for canary in used if not any(one in handed_over for one in canary.spellings())] == []


def entries_pinged(scene: Scene) -> set[str]:
    """Give the entries whose pings were tried: nobody listens there."""
    tried = (line for line in logs(scene).splitlines() if "ping.failed" in line)
    return {entry for line in tried for entry in ("usage-drain", "ledger-reconcile") if entry in line}


def provoke(scene: Scene, crew: CrewProcess, database: str) -> None:
    """Make a job fail, feed the queues garbage, take database and broker away, and give them back."""
    with scene.app() as app, scene.app(signing_key=SigningKey.generate("one").reveal()) as impostor:
        app.usage.increment("key")
        app.usage.flush(timeout_s=10)
        impostor.usage.increment("forged")
        impostor.usage.flush(timeout_s=10)
        impostor.enqueue(RunCanary(note="forged"))
        failing = app.enqueue(FireSchedule(entry="there-is-none"))
        wait_until(lambda: failing.state() not in {"queued", "running"}, timeout_s=30, what="a failure")
        scene.note("library", f"{app!r} {app._publisher!r} {app._signer!r}")
        scene.run(f"jobs show {failing.id}", f"jobs show {failing.id} --json")
    with scene.server.client() as admin:
        admin.lpush(
            RunCanary.queue, b"garbage", b'{"body": "e30=", "headers": {"task": "unknown.kind"}, "properties": {}}'
        )
        admin.lpush(DrainUsage.queue, b"\x80")
        wait_until(lambda: admin.llen(RunCanary.queue) == 0, timeout_s=30, what="the garbage gone")
    without_database(scene, database)
    scene.server.kill9()
    scene.run("status", "doctor")
    scene.server.start()
    with scene.app() as app:
        app.enqueue(RunCanary(note="again")).result(timeout_s=60)
        app.enqueue(ReconcileLedger()).result(timeout_s=60)
    assert crew.exit_code() is None


def without_database(scene: Scene, database: str) -> None:
    """Refuse the database to everyone while a job needs it, and give it back."""
    url = sa.make_url(database).set(drivername="postgresql+psycopg")
    admin = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{url.database}" WITH ALLOW_CONNECTIONS false')
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": url.database},
        )
        with scene.app() as app:
            waiting = app.enqueue(RunCanary(note="without a database"))
        scene.run("doctor", "jobs list")
        wait_until(lambda: "not currently accepting" in logs(scene), timeout_s=30, what="an error about the database")
        connection.exec_driver_sql(f'ALTER DATABASE "{url.database}" WITH ALLOW_CONNECTIONS true')
    with scene.app() as app:
        app.job(waiting.id).result(timeout_s=120)


def fail_to_connect(scene: Scene, database: str) -> None:
    """Spell settings wrongly, knock with a wrong password and at closed doors: as an operator and as an app."""
    wrong, port = quote(WRONG.secret, safe=""), scene.server.port
    brokers = (
        f"redis://worker:{wrong}@127.0.0.1:{port}/0",
        f"redis://worker:{wrong}@127.0.0.1:1/0",
        f"redis://worker:{wrong}@127.0.0.1:no-port/0",
        f"redis://worker:{WRONG.secret}@127.0.0.1:{port}/0",
        f"rediss://worker:{wrong}@127.0.0.1:1/0?ssl_ca_certs=/nowhere",
        f"http://worker:{wrong}@127.0.0.1/0",
        f"unix:///nowhere.sock?password={wrong}",
    )
    for url in brokers:
        with pytest.raises(NightcrewError) as refusal:
            knock(scene, url)
        scene.note("library", "".join(traceback.format_exception(refusal.value)) + repr(refusal.value))
    away = sa.make_url(database).set(password=WRONG.secret, host="127.0.0.1", port=1, query={})
    databases = (
        away.render_as_string(hide_password=False),
        f"postgresql://u:{wrong}@h:no-port/x",
        f"mysql://u:{wrong}@h/x",
    )
    scene.run_each(
        [
            *((verb, {"NIGHTCREW_BROKER__URL": url}) for url in brokers for verb in ("up --no-flower", "status")),
            *((verb, {"NIGHTCREW_DATABASE__URL": url}) for url in databases for verb in ("up --no-flower", "doctor")),
            *(("config show", misspelt) for misspelt in misspelt_settings()),
        ]
    )


def misspelt_settings() -> Iterator[dict[str, str]]:
    """Give signing keys and addresses of pings that the settings refuse."""
    for keys in ([f"no id!:{SIGNING.secret}"], [f"one:{SIGNING.secret}", f"one:{SIGNING.secret}"]):
        yield {"NIGHTCREW_WIRE__SIGNING_KEYS": json.dumps(keys)}
    yield {"NIGHTCREW_WIRE__SIGNING_KEYS": f"[one:{SIGNING.secret}"}
    yield {"NIGHTCREW_SCHEDULE__PING_URL": f"ftp://127.0.0.1/{PING.secret}"}
    for name in ("usage-drain", "no such entry"):
        yield {"NIGHTCREW_SCHEDULE__PING_URLS": json.dumps({name: f"ftp://127.0.0.1/{ENTRY_PING.secret}"})}
    yield {"NIGHTCREW_SCHEDULE__PING_URLS": f"usage-drain={ENTRY_PING.secret}"}


def knock(scene: Scene, url: str) -> None:
    with scene.app(url, timeout_s=0.5) as app:
        app.usage.increment("key")
        app.enqueue(RunCanary())


def crawl(scene: Scene, pages: Pages) -> None:
    """Get every page that the pages lead to, and each task and worker that the API names."""
    todo, seen = list(FLOWER_STARTS), set[str]()
    todo += [f"worker/{quote(name)}" for name in json.loads(pages.get("api/workers?refresh=1")[1])]
    for task in json.loads(pages.get("api/tasks")[1]):
        todo += [f"task/{task}", f"api/task/info/{task}"]
    while todo and len(seen) < MOST_PAGES:
        path = todo.pop(0)
        if path in seen:
            continue
        seen.add(path)
        status, text = pages.get(path)
        scene.note(f"flower /{path} ({status})", text)
        todo += [link for link in re.findall(r'href="/([^"#]*)"', text) if not link.startswith("static")]
    assert len(seen) > len(FLOWER_STARTS) + 4


def look_at_processes(scene: Scene, crew: CrewProcess) -> None:
    family = [psutil.Process(crew.pid), *psutil.Process(crew.pid).children(recursive=True)]
    assert len(family) >= 5
    for process in family:
        with suppress(psutil.NoSuchProcess):
            scene.note(f"command line of {process.pid}", "\0".join(process.cmdline()))
            scene.note(f"title of {process.pid}", process.name())


def look_at_files(scene: Scene) -> None:
    for path in scene.data_dir.rglob("*"):
        if path.is_file():
            scene.note(f"file {path.relative_to(scene.data_dir)}", path.read_bytes().decode("utf-8", "replace"))


def logs(scene: Scene) -> str:
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in scene.data_dir.glob("logs/*.log"))


def look_at_objects(scene: Scene) -> None:
    settings = load_settings(scene.data_dir, env=scene.env)
    runtime = build_runtime(settings, broker_url=scene.server.url_of("worker"), worker_name="test")
    try:
        sections = (settings.broker, settings.database, settings.flower, settings.wire, settings.schedule)
        for thing in (settings, *sections, runtime, runtime.engine):
            scene.note(f"repr of a {type(thing).__name__}", f"{thing!r} {thing!s}")
    finally:
        close_runtime(runtime)
    scene.note("settings as JSON", settings.model_dump_json())


def look_at_rows(scene: Scene, database: str) -> None:
    engine = create_engine(
        sa.make_url(database).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    )
    with engine.connect() as connection:
        for table in ("dead_letters", "job_runs", "run_events", "usage_incidents", "pings"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()  # noqa: S608  our names
            assert rows or table == "usage_incidents", table
            scene.note(f"table {table}", repr(rows))
    engine.dispose()
    with scene.server.client() as admin:
        scene.note("dead letters in Redis", repr(admin.xrange(wire.DEAD_LETTERS)))
