"""TLS with a private authority: whoever cannot prove who he is gets no connection, and the reason is one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from nightcrew import Nightcrew
from nightcrew._redis import connect, kombu_url
from nightcrew.errors import EnqueueError
from nightcrew.messages import RunCanary
from tests.support.certificates import make_certificate
from tests.support.secured_redis import SecuredRedis, running_secured_redis, speaks_tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not speaks_tls(), reason="this server was built without TLS")

REFUSALS = {
    "unknown authority": "authority that is not known here: name the file",
    "other host": "is of another host: write the name that stands in the certificate",
    "expired": "has expired: renew it",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SecuredRedis]:
    with running_secured_redis(certificate=make_certificate(tmp_path / "certificates")) as server:
        yield server


@pytest.fixture(params=REFUSALS)
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Give the address of a server that must not be trusted, and what is said of it."""
    case: str = request.param
    host = "elsewhere.example" if case == "other host" else "localhost"
    certificate = make_certificate(tmp_path / "certificates", host=host, expired=case == "expired")
    with running_secured_redis(certificate=certificate) as server:
        options = "?" if case == "unknown authority" else ""
        yield server.url_of("worker", options=options), REFUSALS[case]


def test_the_library_refuses(refused: tuple[str, str]) -> None:
    """`enqueue` says a clear no, in one line that names the cure."""
    url, reason = refused
    with Nightcrew(url, timeout_s=5) as app, pytest.raises(EnqueueError, match=reason) as refusal:
        app.enqueue(RunCanary())
    assert refusal.value.accepted == "no"
    assert len(str(refusal.value).splitlines()) == 1


def test_workers_refuse(refused: tuple[str, str]) -> None:
    """So does kombu, which by itself verifies nothing."""
    url, _ = refused
    with Connection(kombu_url(url)) as connection, pytest.raises(OperationalError, match="certificate verify failed"):
        connection.ensure_connection(max_retries=1, interval_start=0)


def test_the_crew_does_not_start(refused: tuple[str, str], tmp_path: Path) -> None:
    """`nightcrew up` ends with the exit code of a broker that cannot be reached, and one line."""
    url, reason = refused
    ended = run_cli("up", "--no-flower", "--data-dir", str(tmp_path / "crew"), url=url)
    assert ended.returncode == 4, ended.stderr
    assert reason in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_doctor_says_why(refused: tuple[str, str], tmp_path: Path) -> None:
    """The finding about the broker has the reason."""
    url, reason = refused
    ended = run_cli("doctor", "--data-dir", str(tmp_path / "crew"), url=url)
    assert ended.returncode != 0
    assert reason in ended.stdout + ended.stderr


def test_a_known_authority_is_enough(server: SecuredRedis) -> None:
    """With the file of the authority in the address both ways of connecting work."""
    url = server.url_of("worker")
    with connect(url, timeout_s=5) as client:
        assert client.ping()
    with Connection(kombu_url(url)) as connection:
        connection.ensure_connection(max_retries=1)


def test_only_the_address_itself_can_turn_verification_off(server: SecuredRedis) -> None:
    """`ssl_cert_reqs=none` encrypts towards anybody, for whoever writes it."""
    url = server.url_of("worker", options="?ssl_cert_reqs=none")
    with connect(url, timeout_s=5) as client:
        assert client.ping()
    with Connection(kombu_url(url)) as connection:
        connection.ensure_connection(max_retries=1)


def test_neither_side_falls_back_to_plain(server: SecuredRedis) -> None:
    """Without TLS the server answers nothing; with TLS nothing is said to a server that has none."""
    plain = server.url_of("worker").replace("rediss://", "redis://").partition("?")[0]
    with connect(plain, timeout_s=5) as client, pytest.raises(RedisConnectionError):
        client.ping()
    with running_secured_redis() as open_server:
        url = open_server.url_of("worker").replace("redis://", "rediss://")
        with open_server.client() as admin:
            refused_before = admin.info()["total_error_replies"]
            with connect(url, timeout_s=1) as client, pytest.raises(RedisError):  # a handshake that nobody answers
                client.ping()
            assert admin.info()["total_error_replies"] == refused_before


def run_cli(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NIGHTCREW_BROKER__URL": url}
    argv = [sys.executable, "-m", "workers.cli", *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
