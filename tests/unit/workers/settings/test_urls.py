"""Addresses of servers."""

from __future__ import annotations

import pytest

from workers.settings.urls import checked_broker_url, checked_database_url, masked_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "rediss://user:secret@host/1",
        "unix:///run/redis.sock?db=2",
        "redis+socket:///run/redis.sock?virtual_host=1",
    ],
)
def test_broker_forms(url: str) -> None:
    """The four forms pass as they are."""
    assert checked_broker_url(f" {url}\n") == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://host",
        "redis://",
        "redis:///0",
        "unix://relative",
        "unix:///",
        "redis://host:port/0",
        "x",
    ],
)
def test_broker_refusals(url: str) -> None:
    """Anything else is refused with the form to write."""
    with pytest.raises(ValueError, match="write "):
        checked_broker_url(url)


@pytest.mark.parametrize(
    ("url", "spelt"),
    [
        ("sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
        ("postgresql://u:p@host/db", "postgresql+psycopg://u:p@host/db"),
        ("postgres://host/db?sslmode=require", "postgresql+psycopg://host/db?sslmode=require"),
        ("postgresql+psycopg://u@/db?host=/run/pg", "postgresql+psycopg://u@/db?host=/run/pg"),
    ],
)
def test_database_forms(url: str, spelt: str) -> None:
    """PostgreSQL's usual spellings all come out with the driver's name."""
    assert checked_database_url(url) == spelt


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///relative.db", "sqlite:///:memory:", "mysql://h/d", "postgresql://host", "x.db"]
)
def test_database_refusals(url: str) -> None:
    """Files need an absolute path, servers a database."""
    with pytest.raises(ValueError, match="write "):
        checked_database_url(url)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:canary@host:1/0", "redis://:***@host:1/0"),
        ("postgresql://me:can:ary@host/db", "postgresql://me:***@host/db"),
        ("redis://host/0?password=canary&x=1", "redis://host/0?password=***&x=1"),
        ("postgresql://h/d?sslmode=x&sslpassword=canary", "postgresql://h/d?sslmode=x&sslpassword=***"),
        ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?db=0"),
        ("unix://:canary@/run/redis.sock", "unix://:***@/run/redis.sock"),
    ],
)
def test_masking(url: str, masked: str) -> None:
    """Passwords go, everything else stays."""
    assert masked_url(url) == masked
