"""A new vault of restic whose password is quickly tried, for tests that start the engine often.

`restic init` chooses the work factor of scrypt so that a try of the password takes half a second, and each start of the
program is such a try: 0.4 s of CPU, and 2 s for the `init`. That is right for a vault, and most of what a test with one
would do. So this writes an empty repository of version 2 with a work factor of nearly nothing; the engine opens it
like any other. Its format: https://restic.readthedocs.io/en/stable/100_references.html#repository-format
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

if TYPE_CHECKING:
    from pathlib import Path

_POLYNOMIAL: Final = "22fe81d03d72c5"
"""For the cutting of files into chunks; any irreducible one of degree 53 does."""
_WORK: Final = {"N": 16, "r": 1, "p": 1}
_MASK: Final = bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f")
"""Bits that the key of Poly1305 leaves empty."""


def make_cheap_vault(directory: Path, password: str) -> None:
    """Make an empty repository in a directory that is not there yet, or is empty."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("index", "keys", "locks", "snapshots", *(f"data/{number:02x}" for number in range(256))):
        (directory / name).mkdir(mode=0o700, parents=True)
    master = secrets.token_bytes(64)
    config = {"version": 2, "id": secrets.token_hex(32), "chunker_polynomial": _POLYNOMIAL}
    (directory / "config").write_bytes(_encrypted(config, master))
    key = _key_file(master, password)
    (directory / "keys" / hashlib.sha256(key).hexdigest()).write_bytes(key)


def _key_file(master: bytes, password: str) -> bytes:
    salt = secrets.token_bytes(64)
    work = {name.lower(): value for name, value in _WORK.items()}
    user = hashlib.scrypt(password.encode(), salt=salt, dklen=64, **work)
    kept = {"mac": {"k": _text(master[32:48]), "r": _text(_masked(master[48:]))}, "encrypt": _text(master[:32])}
    about = {"created": "2026-01-01T00:00:00Z", "username": "test", "hostname": "test", "kdf": "scrypt", **_WORK}
    return json.dumps({**about, "salt": _text(salt), "data": _text(_encrypted(kept, user))}).encode()


def _encrypted(value: dict[str, Any], key: bytes) -> bytes:
    """Encrypt by AES-256-CTR and sign by Poly1305-AES: nonce, text, signature."""
    nonce = secrets.token_bytes(16)
    encryptor = Cipher(algorithms.AES(key[:32]), modes.CTR(nonce)).encryptor()
    hidden = encryptor.update(json.dumps(value).encode()) + encryptor.finalize()
    once = Cipher(algorithms.AES(key[32:48]), modes.ECB()).encryptor()  # noqa: S305  one block, as Poly1305-AES has it
    signature = Poly1305.generate_tag(_masked(key[48:]) + once.update(nonce) + once.finalize(), hidden)
    return nonce + hidden + signature


def _masked(part: bytes) -> bytes:
    return bytes(bits & mask for bits, mask in zip(part, _MASK, strict=True))


def _text(part: bytes) -> str:
    return base64.b64encode(part).decode()
