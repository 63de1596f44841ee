"""Where beat finds the signer of its process: beside Celery's configuration, which Flower and `inspect` would show."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from celery import Celery

    from nightcrew.signing import Signer

_signers: WeakKeyDictionary[Celery, Signer] = WeakKeyDictionary()


def give_signer(app: Celery, signer: Signer | None) -> None:
    """Let what this app sends by the clock be signed; None: not."""
    if signer is not None:
        _signers[app] = signer


def signer_of(app: Celery) -> Signer | None:
    """Give the signer of an app."""
    return _signers.get(app)
