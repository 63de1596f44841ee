"""Signatures: who holds a key vouches for what goes over the wire, and nobody else can.

HMAC-SHA-256 (RFC 2104, FIPS 198-1) under keys that apps and crew share. A key is written `id:secret`, the secret in
base64url (RFC 4648, section 5). A signature is the text `v1:<key id>:<64 hex digits>`. Standard library only.

What is signed, each form under a name of its own, so that the signature of one thing is none of another:

- an intent: all fields of its stream entry but `sig`, as bytes, each name and value with its length before it;
- an entry of the usage log: the same, and the name of its stream;
- a Celery message: kind, job id, all `nightcrew_` headers but the signature, and the payload, as JSON with sorted keys,
  which is the same after any number of trips through JSON.

Not signed is what the way of a message writes: `eta`, `expires`, the count of Celery's retries, delivery tags. Nor does
a signature say when: a signed message that comes again is told by its job id, an entry by producer and sequence number.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nightcrew import wire
from nightcrew.errors import InvalidMessageError, InvalidSigningKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SIGNATURE_FIELD: Final = "sig"
"""Of a stream entry."""

SECRET_BYTES: Final = 32
"""Of a new key, and the fewest of any: as many as SHA-256 gives."""

_VERSION: Final = "v1"
_KEY_ID: Final = re.compile("[A-Za-z0-9_.-]{1,64}")
_OUR_HEADERS: Final = "nightcrew_"
_FLAT: Final = (str, int, float, bool, type(None))
_HOW_TO_WRITE: Final = "write id:secret, as `nightcrew config new-signing-key` prints it"


class SignatureError(InvalidMessageError):
    """A signature is missing or wrong: nothing of what it stands on may be believed."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret and the name by which signatures refer to it. Its text forms show the name alone."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read `id:secret`.

        Raises:
            InvalidSigningKeyError: it is none; the text of the error holds nothing of it.
        """
        key_id, _, encoded = text.strip().partition(":")
        if not _KEY_ID.fullmatch(key_id):
            msg = f"a signing key needs an id of 1 to 64 letters, digits, `_`, `.` or `-`: {_HOW_TO_WRITE}"
            raise InvalidSigningKeyError(msg)
        try:
            secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            msg = f"the secret of a signing key is not base64url: {_HOW_TO_WRITE}"
            raise InvalidSigningKeyError(msg) from None  # the cause may show a part of it
        if len(secret) < SECRET_BYTES:
            msg = f"the secret of a signing key has {len(secret)} bytes, at least {SECRET_BYTES} are needed"
            raise InvalidSigningKeyError(msg)
        return cls(key_id, secret)

    @classmethod
    def generate(cls, key_id: str) -> SigningKey:
        """Make a new key.

        Raises:
            InvalidSigningKeyError: the id cannot be one.
        """
        return cls.parse(cls(key_id, secrets.token_bytes(SECRET_BYTES)).reveal())

    def reveal(self) -> str:
        """Write the key, secret and all, as `parse` reads it."""
        return f"{self.id}:{base64.urlsafe_b64encode(self.secret).decode().rstrip('=')}"


class Signer:
    """Signs with the first of its keys and knows the signatures of all."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        if not keys:
            raise InvalidSigningKeyError("a signer needs a key")
        self._first = keys[0]
        self._secrets = {key.id: key.secret for key in keys}
        if len(self._secrets) != len(keys):
            raise InvalidSigningKeyError("two signing keys have the same id")

    def __repr__(self) -> str:
        return f"Signer({', '.join(self._secrets)})"

    def sign_intent(self, fields: Mapping[str, str | bytes]) -> str:
        """Sign the fields of an intent."""
        return self._sign(_intent_form(_as_bytes(fields)))

    def sign_entry(self, stream: str, fields: Mapping[str, str | bytes]) -> str:
        """Sign the fields of an entry of the usage log."""
        return self._sign(_entry_form(stream, _as_bytes(fields)))

    def sign_message(self, *, kind: str, job_id: str, payload: Mapping[str, Any], headers: Mapping[str, Any]) -> str:
        """Sign a message; of the headers only ours count.

        Raises:
            SignatureError: the payload is no JSON.
        """
        return self._sign(_message_form(kind, job_id, payload, headers))

    def verify(self, signature: str, form: bytes) -> None:
        """Check a signature.

        Raises:
            SignatureError: it was not made by one of the keys, or not for this.
        """
        version, _, rest = signature.partition(":")
        key_id, _, digest = rest.partition(":")
        secret = self._secrets.get(key_id)
        if version != _VERSION or secret is None:
            msg = f"signature by an unknown key {key_id!r:.70}; known are {', '.join(self._secrets)}"
            raise SignatureError(msg)
        expected = hmac.digest(secret, form, "sha256").hex()
        if not hmac.compare_digest(expected.encode(), digest.encode("utf-8", "backslashreplace")):
            msg = f"signature by key {key_id!r} is wrong: the content is not what was signed"
            raise SignatureError(msg)

    def _sign(self, form: bytes) -> str:
        return f"{_VERSION}:{self._first.id}:{hmac.digest(self._first.secret, form, 'sha256').hex()}"


class Guard:
    """Decides what is taken from the wire. Without keys everything is, and nothing is signed.

    `requires`: whether what has no signature is refused; None stands for whether there are keys. What has a wrong one
    is refused wherever there are keys.
    """

    def __init__(self, keys: Sequence[SigningKey] = (), *, requires: bool | None = None) -> None:
        self.signer = Signer(keys) if keys else None
        self.requires = bool(keys) if requires is None else requires
        if self.requires and not keys:
            raise InvalidSigningKeyError("signatures are required, but there is no key to check them with")

    def __repr__(self) -> str:
        return f"Guard({self.signer!r}, requires={self.requires})"

    def check_intent(self, fields: Mapping[bytes, bytes]) -> None:
        """Check an intent.

        Raises:
            SignatureError: it may not be taken in.
        """
        if self._wants_check(signature := fields.get(_SIGNATURE)):
            self._verify(signature, _intent_form(fields))

    def check_entry(self, stream: str, fields: Mapping[bytes, bytes]) -> None:
        """Check an entry of the usage log.

        Raises:
            SignatureError: it may not be counted.
        """
        if self._wants_check(signature := fields.get(_SIGNATURE)):
            self._verify(signature, _entry_form(stream, fields))

    def check_message(
        self, *, kind: str, job_id: str | None, payload: Mapping[str, Any], headers: Mapping[str, Any]
    ) -> None:
        """Check a message.

        Raises:
            SignatureError: it may not be done.
        """
        if self._wants_check(signature := headers.get(wire.HEADER_SIGNATURE)):
            self._verify(signature, _message_form(kind, job_id, payload, headers))

    def _wants_check(self, signature: object) -> bool:
        if self.signer is None:
            return False
        if signature is None and self.requires:
            raise SignatureError("signature is missing")
        return signature is not None

    def _verify(self, signature: object, form: bytes) -> None:
        text = signature.decode("utf-8", "backslashreplace") if isinstance(signature, bytes) else signature
        if not isinstance(text, str) or self.signer is None:
            raise SignatureError("signature is no text")
        self.signer.verify(text, form)


_SIGNATURE: Final = SIGNATURE_FIELD.encode()


def _intent_form(fields: Mapping[bytes, bytes]) -> bytes:
    return _framed([b"nightcrew-intent", *_flat(fields)])


def _entry_form(stream: str, fields: Mapping[bytes, bytes]) -> bytes:
    return _framed([b"nightcrew-usage", stream.encode(), *_flat(fields)])


def _message_form(kind: str, job_id: str | None, payload: Mapping[str, Any], headers: Mapping[str, Any]) -> bytes:
    ours = {
        name: value
        for name, value in headers.items()
        if name.startswith(_OUR_HEADERS) and name != wire.HEADER_SIGNATURE
    }
    try:
        content: object = [kind, job_id, ours, payload]
        if not all(isinstance(value, _FLAT) for value in payload.values()):
            # Further down, a key that is a number sorts as a number before its trip through JSON, as text after it.
            content = json.loads(json.dumps(content, allow_nan=False))
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"signature cannot be checked: the content is no JSON ({type(error).__name__})"
        raise SignatureError(msg) from error
    return _framed([b"nightcrew-message", text.encode()])


def _flat(fields: Mapping[bytes, bytes]) -> Iterable[bytes]:
    for name in sorted(fields):
        if name != _SIGNATURE:
            yield name
            yield fields[name]


def _framed(parts: Iterable[bytes]) -> bytes:
    """Join parts so that no other parts give the same bytes."""
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _as_bytes(fields: Mapping[str, str | bytes]) -> dict[bytes, bytes]:
    return {
        name.encode(): value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        for name, value in fields.items()
    }
