"""The address of a Redis server, from a client that is connected to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from redis.connection import SSLConnection, UnixDomainSocketConnection

if TYPE_CHECKING:
    from redis import Redis

_TLS_TEXTS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")


def address_of(client: Redis) -> str:
    """Give the address that the client was made with, password included: it is secret, and may be of any database."""
    pool = client.connection_pool
    options: dict[str, Any] = pool.connection_kwargs
    query = {"db": options.get("db") or 0}
    user = _user_info(options)
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        return f"unix://{user}{options['path']}?{urlencode(query)}"
    if issubclass(pool.connection_class, SSLConnection):
        tls = {name: options[name] for name in _TLS_TEXTS if options.get(name) is not None}
        tls["ssl_check_hostname"] = "true" if options.get("ssl_check_hostname") else "false"
        return f"rediss://{user}{_host(options)}?{urlencode({**query, **tls})}"
    return f"redis://{user}{_host(options)}?{urlencode(query)}"


def _user_info(options: dict[str, Any]) -> str:
    password = options.get("password")
    if password is None:
        return ""
    return f"{quote(options.get('username') or '', safe='')}:{quote(password, safe='')}@"


def _host(options: dict[str, Any]) -> str:
    host = options.get("host", "localhost")
    return f"{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}"
