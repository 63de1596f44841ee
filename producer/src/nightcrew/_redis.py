"""Connections to Redis, and the spellings of its address.

Accepted: `redis://`, `rediss://`, `unix:///path?db=0` (redis-py's form) and
`redis+socket:///path?virtual_host=0` (kombu's form).

`rediss://` is TLS. The certificate and the host name are verified unless the address itself says otherwise, in
options that redis-py and kombu read alike: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (files in PEM format),
`ssl_check_hostname` (`true`, `false`) and `ssl_cert_reqs` (`required`, `optional`, `none`). They are always written
out, because kombu verifies nothing where they are missing (kombu 5.7, `Connection._init_params`).
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from nightcrew.errors import InvalidUrlError

if TYPE_CHECKING:
    from redis import Redis

CONNECT_SHARE = 1 / 4
"""Share of a timeout that connecting may take."""

HEALTH_CHECK_INTERVAL_S = 10
"""A connection idle for longer is tried with a PING before it is used."""

_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_CHOICES: Final = {
    "ssl_check_hostname": ("true", "false"),
    "ssl_cert_reqs": ("required", "optional", "none"),
}

# What OpenSSL says, and what it means for whoever wrote the address.
_TLS_FAILURES: Final = {
    r"unable to get (local )?issuer certificate|self[- ]signed certificate": (
        "its certificate is of an authority that is not known here: name the file of that authority in the address, "
        "?ssl_ca_certs=/path/to/ca.pem"
    ),
    r"hostname mismatch|IP address mismatch|doesn't match": (
        "its certificate is of another host: write the name that stands in the certificate into the address"
    ),
    r"certificate has expired": "its certificate has expired: renew it, and check the clock of this machine",
    r"certificate is not yet valid": "its certificate is not valid yet: check the clock of this machine",
    r"wrong.version.number|record layer failure": (
        "it does not speak TLS on this port: the port may be the one without encryption"
    ),
    r"certificate required": (
        "it wants a certificate of the client: name it in the address, ?ssl_certfile=…&ssl_keyfile=…"
    ),
}


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
        client = redis.Redis.from_url(
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
    if address.startswith("rediss:"):
        client.connection_pool.connection_class = tls_connection_class()
    return client


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


def tls_options(url: str) -> dict[str, Any] | None:
    """Give the options of TLS as redis-py and Flower take them; None for an address without TLS.

    Raises:
        InvalidUrlError: no Redis can be meant by this address.
    """
    parts = urlsplit(_redis_url(url))
    if parts.scheme != "rediss":
        return None
    given = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    return {**given, "ssl_check_hostname": given["ssl_check_hostname"] == "true"}


def tls_problem(url: str) -> str | None:
    """Say what is wrong with the options of TLS in an address, without repeating the address; None for nothing."""
    parts = urlsplit(url)
    given = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name.startswith("ssl")}
    if given and parts.scheme != "rediss":
        return f"has {next(iter(given))}, but no TLS: write rediss:// to encrypt"
    for name, value in given.items():
        if name in _TLS_FILES:
            if not os.access(value, os.R_OK):
                return f"has {name}={value}, which cannot be read"
        elif name not in _TLS_CHOICES:
            return f"has {name}, which is none of {', '.join((*_TLS_FILES, *_TLS_CHOICES))}"
        elif value not in _TLS_CHOICES[name]:
            return f"has {name}={value}: write {' or '.join(_TLS_CHOICES[name])}"
    return None


@cache
def tls_connection_class() -> type[Any]:
    """Give redis-py's connection over TLS, with failures said in one clear line; it never goes on without TLS."""
    from redis.connection import SSLConnection

    class TlsConnection(SSLConnection):
        def _error_message(self, exception: BaseException) -> str:
            meaning = tls_failure(str(exception))
            return f"no TLS connection to {self.host}:{self.port}: {meaning}" if meaning else self._plain(exception)

        def _plain(self, exception: BaseException) -> str:
            return str(super()._error_message(exception))  # type: ignore[no-untyped-call]

    return TlsConnection


def tls_failure(text: str) -> str | None:
    """Say what an error of OpenSSL means and what helps; None when it is none that is known."""
    said = text.replace("_", " ")
    found = (meaning for pattern, meaning in _TLS_FAILURES.items() if re.search(pattern, said, re.IGNORECASE))
    return next(found, None)


def _redis_url(url: str) -> str:
    parts = _split(url)
    if problem := tls_problem(url):
        msg = f"the address {mask_url(url)} {problem}"
        raise InvalidUrlError(msg)
    if parts.scheme in {"redis", "rediss"}:
        return _with_tls_written_out(parts) if parts.scheme == "rediss" else url
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


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # looked at by urlsplit only when it is asked for
    except ValueError:  # whose text may repeat the password
        msg = f"the address {mask_url(url)} is not understood: special characters in a password are written as %XX"
        raise InvalidUrlError(msg) from None
    return parts


def _with_tls_written_out(parts: SplitResult) -> str:
    query = dict(parse_qsl(parts.query))
    defaults = {name: choices[0] for name, choices in _TLS_CHOICES.items()}
    if query.get("ssl_cert_reqs") == "none":
        defaults["ssl_check_hostname"] = "false"  # kombu and OpenSSL refuse a name check of an unverified certificate
    return parts._replace(query=urlencode({**query, **defaults, **query})).geturl()


def _user_info(netloc: str, query: dict[str, str]) -> str:
    """Kombu reads user and password of a socket from before the path only."""
    user = query.pop("username", "")
    if (password := query.pop("password", None)) is not None:
        return f"{quote(user, safe='')}:{quote(password, safe='')}@"
    return netloc


def _masked_user(user_info: str) -> str:
    user, colon, _ = user_info.partition(":")
    return f"{user}:***" if colon else "***"
