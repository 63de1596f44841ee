"""What the errors of restic mean: by exit code where it has one for them, by its words elsewhere.

Exit codes 10 and 11 came with 0.17.0, 12 with 0.17.1, and any release may bring new ones: a code that is not known is
a failure. Before that everything is 1, and only the words tell a wrong password from a place that is away.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from tasks.backups.vaults import (
    VaultDamagedError,
    VaultLockedError,
    VaultMissingError,
    VaultPasswordError,
    VaultUnreachableError,
)
from tasks.errors import CrewError, PermanentError

if TYPE_CHECKING:
    from tasks.backups.store.programs import Finished


class VaultRefusedError(PermanentError):
    """The place of the vault answers, and does not let us do that."""


_Rules = tuple[tuple[type[CrewError], re.Pattern[str]], ...]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_BY_CODE: Final[dict[int, type[CrewError]]] = {10: VaultMissingError, 11: VaultLockedError, 12: VaultPasswordError}

_REFUSED: Final = _words(
    r"access ?denied|access key id you provided|signature we calculated|\b40[13] (forbidden|unauthorized)|"
    r"\(40[13]\)|invalid access key"
)

# The first that is found stands, so the order matters: a place that fails in the middle makes everything else look
# damaged, and restic adds "Is there a repository at the following location?" to whatever kept it from looking.
_BY_WORDS: Final[_Rules] = (
    (VaultPasswordError, _words(r"wrong password or no key found")),
    (VaultUnreachableError, _words(r"no space left on device|disk quota exceeded|file too large|XMinioStorageFull")),
    (VaultLockedError, _words(r"already locked")),
    (VaultRefusedError, _REFUSED),
    (
        VaultUnreachableError,
        _words(
            r"dial tcp|connection (refused|reset)|broken pipe|i/o timeout|no such host|network is unreachable|"
            r"tls: |x509: |slow ?down|reduce your request rate|\b(429|50[0234])\b ?[a-z(]|service unavailable|"
            r"internal error|deadline exceeded|server closed|giving up|bad gateway|client\.timeout"
        ),
    ),
    (
        VaultMissingError,
        _words(
            r"unable to open config file: .*"
            r"(no such file|does not exist|\(404\)|404 not found|not a directory)|repository does not exist"
        ),
    ),
    (
        VaultUnreachableError,
        _words(
            r"permission denied|read-only file system|input/output error|stale file handle|host is down|"
            r"create repository at .* failed"
        ),
    ),
    (
        VaultDamagedError,
        _words(
            r"ciphertext verification failed|invalid data returned|does not match|wrong hash|does not exist|"
            r"no such file|not found|unexpected file size|contains errors|is damaged|"
            r"no matching id found|decrypting|corrupt"
        ),
    ),
)
_CUT: Final = _words(r"\bEOF\b|content-?length|expected \d+ bytes")

# These say that there are errors, not which.
_SAYS_NOTHING: Final = _words(
    r"^is there a repository|^using temporary cache|contains errors$|there were \d+ errors|^the `unlock`|"
    r"returned error, retrying|^create exclusive lock|^load indexes|^check |^\[\d|^read all|"
    r"^restoring (<|snapshot )|^summary: |^ignoring \"|"
    r"^snapshot [0-9a-f]+ of |^skipping |^copy started|^repository [0-9a-f]+ |^found \d+ |^loading |^counting "
)
_LONGEST: Final = 300

_PACK: Final = _words(r"\bpack(?: id does not match, want)?[ :]+([0-9a-f]{8,64})\b")

_RETRIED: Final = re.compile(r"^(.*) returned error, retrying after [^:]*: (.*)$", re.MULTILINE)
_OPENING: Final = re.compile(r"(?:Stat|Load)\(<config/")
_NO_ROOM: Final = _words(r"no space left on device|disk quota exceeded|read-only file system|file too large")
_ATTEMPTS_TO_OPEN: Final = 3


def failure(finished: Finished, what: str, *, is_local: bool) -> CrewError:
    """Make the error of a restic that did not end well; `what` is what its one line begins with.

    A reading that ends too early is damage on a disk, and an interruption elsewhere.
    """
    said = f"{finished.errors}\n{finished.output}"
    cut: _Rules = ((VaultDamagedError if is_local else VaultUnreachableError, _CUT),)
    rules = (*_BY_WORDS, *cut) if is_local else (*cut, *_BY_WORDS)
    by_words = next((kind for kind, words in rules if words.search(said)), VaultUnreachableError)
    kind = _BY_CODE.get(finished.code, by_words)
    msg = f"{what}: {reason(finished)}"
    return VaultDamagedError(msg, pieces=damaged_packs(said)) if kind is VaultDamagedError else kind(msg)


def damaged_packs(said: str) -> list[str]:
    """Give the packs, files of the vault, that errors name; whole ids or the beginnings of them."""
    return sorted(set(_PACK.findall(said)))


def why_give_up(errors: str, *, tries_again: bool = True) -> tuple[type[CrewError], str] | None:
    """Say what restic would try again for a quarter of an hour, without a word on standard output; None: it may.

    A full disk and keys that are refused do not change with a second try. And where a vault is not even opened, which
    0.17 and newer try as long, nothing is under way yet that would be lost: the whole run is tried again.

    Without `tries_again` anything that is tried again is damage: of a copy on this disk, which nobody else touches.
    """
    tried = [(found[1], found[2].strip()[:_LONGEST]) for found in _RETRIED.finditer(errors)]
    if tried and not tries_again:
        return VaultDamagedError, f"a copy on this disk cannot be read: {tried[0][1]}"
    for _, said in tried:
        if _NO_ROOM.search(said):
            return VaultUnreachableError, f"the engine cannot write: {said}"
        if _REFUSED.search(said):
            return VaultRefusedError, f"the place of the vault refuses that: {said}"
    opening = [said for what, said in tried if _OPENING.match(what)]
    if len(opening) >= _ATTEMPTS_TO_OPEN:
        return VaultUnreachableError, f"the place of the vault is away: {opening[-1]}"
    return None


def reason(finished: Finished) -> str:
    """Pick the line that says most."""
    lines = [_unpacked(line.strip()) for line in f"{finished.output}\n{finished.errors}".splitlines()]
    telling = [line for line in lines if line and not _SAYS_NOTHING.search(line)]
    fatal = [line for line in telling if line.startswith("Fatal: ")]
    chosen = (fatal or telling or [finished.ending])[0]
    return chosen.removeprefix("Fatal: ")[:_LONGEST]


def _unpacked(line: str) -> str:
    """Take the message out of an error that is JSON, as those of 0.18 and newer are; other JSON says no error."""
    if not line.startswith("{"):
        return line
    try:
        return str(json.loads(line).get("message", ""))
    except ValueError:
        return line
