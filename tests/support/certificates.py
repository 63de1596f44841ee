"""A private authority for certificates, and what it signs: in files, as servers and addresses name them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """Files in PEM format."""

    certificate: Path
    key: Path
    authority: Path
    """Of whoever signed it."""


def make_certificate(directory: Path, *, host: str = "localhost", expired: bool = False) -> ServerCertificate:
    """Make an authority that nobody else knows, and have it sign a certificate for a host."""
    directory.mkdir()
    authority = trustme.CA()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    signed = authority.issue_cert(host, not_after=yesterday if expired else None)
    made = ServerCertificate(
        certificate=directory / "server.pem", key=directory / "server.key", authority=directory / "authority.pem"
    )
    signed.cert_chain_pems[0].write_to_path(made.certificate)
    signed.private_key_pem.write_to_path(made.key)
    authority.cert_pem.write_to_path(made.authority)
    return made
