"""Which addresses of servers are accepted, and how they are spelt afterwards.

The texts of the errors never repeat the address: it may carry a password.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from nightcrew._redis import tls_problem

_TCP_SCHEMES: Final = ("redis", "rediss")
_SOCKET_SCHEMES: Final = ("unix", "redis+socket")
_POSTGRESQL_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
_PASSWORD: Final = re.compile(r"(?<=://)([^/?#@:]*):[^/?#]*@")
_PASSWORD_OPTION: Final = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&#]*", re.IGNORECASE)


def checked_broker_url(url: str) -> str:
    """Give the address of a broker, trimmed.

    Raises:
        ValueError: it is none.
    """
    url = url.strip()
    parts = _split(url)
    if parts.scheme in _TCP_SCHEMES:
        if not parts.hostname:
            msg = f"has no host: write {parts.scheme}://localhost:6379/0"
            raise ValueError(msg)
    elif parts.scheme in _SOCKET_SCHEMES:
        if not parts.path.startswith("/") or parts.path == "/":
            msg = f"has no absolute path to a socket: write {parts.scheme}:///run/redis/redis.sock"
            raise ValueError(msg)
    else:
        msg = f"has an unknown scheme {parts.scheme!r}: write redis://, rediss://, unix:// or redis+socket://"
        raise ValueError(msg)
    if problem := tls_problem(url):
        raise ValueError(problem)
    return url


def checked_database_url(url: str) -> str:
    """Give the address of a database in the spelling that names the driver.

    Raises:
        ValueError: it is none.
    """
    url = url.strip()
    parts = _split(url)
    if parts.scheme == "sqlite":
        if not url.startswith("sqlite:////"):
            msg = "has no absolute path: write sqlite:////var/lib/nightcrew/nightcrew.db (four slashes)"
            raise ValueError(msg)
        return url
    if parts.scheme in _POSTGRESQL_SCHEMES:
        if not parts.path.strip("/"):
            msg = "names no database: write postgresql://user:password@host:5432/nightcrew"
            raise ValueError(msg)
        return "postgresql+psycopg" + url[len(parts.scheme) :]
    msg = f"has an unknown scheme {parts.scheme!r}: write postgresql://… or sqlite:////…"
    raise ValueError(msg)


def masked_url(url: str) -> str:
    """Give the address for people, with `***` for each password in it."""
    return _PASSWORD_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked by urlsplit only when it is asked for
    except ValueError:
        msg = "is not a URL: write scheme://user:password@host:port/name, special characters as %XX"
        raise ValueError(msg) from None
    return parts
