"""Connections to Redis, and the spellings of its address.

Accepted: `redis://`, `rediss://`, `unix:///path?db=0` (redis-py's form) and
`redis+socket:///path?virtual_host=0` (kombu's form).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from nightcrew.errors import InvalidUrlError

if TYPE_CHECKING:
    from redis import Redis

CONNECT_SHARE = 1 / 4
"""Share of a timeout that connecting may take."""

HEALTH_CHECK_INTERVAL_S = 10
"""A connection idle for longer is tried with a PING before it is used."""


def connect(url: str, timeout_s: float) -> Redis:
    """Make a client; it connects at its first command.

    No command takes much longer than `timeout_s`, and none is tried again behind the caller's back:
    who repeats a command must know whether that is harmless.

    Raises:
        InvalidUrlError: no Redis can be meant by this address.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    address = _redis_url(url)
    keepalive = {} if address.startswith("unix:") else {"socket_keepalive": True}
    try:
        return redis.Redis.from_url(
            address,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=HEALTH_CHECK_INTERVAL_S,
            retry=Retry(NoBackoff(), 0),
            **keepalive,
        )
    except ValueError as error:
        msg = f"the address {mask_url(url)} is not understood: {error}"
        raise InvalidUrlError(msg) from None


def kombu_url(url: str) -> str:
    """Spell the address as kombu reads it.

    Raises:
        InvalidUrlError: no Redis can be meant by this address.
    """
    parts = urlsplit(_redis_url(url))
    query = dict(parse_qsl(parts.query))
    database = query.pop("db", None)
    if parts.scheme == "unix":
        query["virtual_host"] = database or "0"
        return f"redis+socket://{_user_info(parts.netloc, query)}{parts.path}?{urlencode(query)}"
    path = f"/{database}" if database is not None else parts.path
    return parts._replace(path=path, query=urlencode(query)).geturl()


def mask_url(url: str) -> str:
    """Hide the password, for logs, errors and `repr`; works on what is not a proper address too."""
    masked = re.sub(r"(?<=://)(.*)@", lambda found: _masked_user(found[1]) + "@", url, flags=re.DOTALL)
    return re.sub(r"(?i)([?&]password=)[^&]*", r"\1***", masked)


def _redis_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme in {"redis", "rediss"}:
        return url
    if parts.scheme not in {"unix", "redis+socket"} or parts.path in {"", "/"}:
        msg = (
            f"the address {mask_url(url)} is not understood: "
            "write redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/redis.sock?db=0"
        )
        raise InvalidUrlError(msg)
    query = dict(parse_qsl(parts.query))
    if "virtual_host" in query:
        query["db"] = query.pop("virtual_host").lstrip("/")
    return f"unix://{parts.netloc}{parts.path}" + (f"?{urlencode(query)}" if query else "")


def _user_info(netloc: str, query: dict[str, str]) -> str:
    """Kombu reads user and password of a socket from before the path only."""
    user = query.pop("username", "")
    if (password := query.pop("password", None)) is not None:
        return f"{quote(user, safe='')}:{quote(password, safe='')}@"
    return netloc


def _masked_user(user_info: str) -> str:
    user, colon, _ = user_info.partition(":")
    return f"{user}:***" if colon else "***"
