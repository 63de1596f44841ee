"""Reading the versions of server programs."""

from __future__ import annotations

import pytest

from workers.supervisor.broker_program import parse_version


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0", (7, 0)),
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150", (9, 1)),
        ("Redis server v=6.2.14 sha=00000000:0", (6, 2)),
        ("redis-server: command not found", None),
        ("", None),
    ],
)
def test_versions_of_redis_and_valkey_are_read(answer: str, version: tuple[int, int] | None) -> None:
    """Both programs are understood, and what is neither is noticed."""
    assert parse_version(answer) == version
