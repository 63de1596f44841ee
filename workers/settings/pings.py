"""Which addresses of dead-man switches are accepted, and for which entries.

The texts of the errors never repeat the address: who knows it can say that all is well.
"""

from __future__ import annotations

import difflib
from typing import Final
from urllib.parse import urlsplit

from schedules.timetable import EVERY_ENTRY

_PLACE: Final = "{entry}"
_EXAMPLE: Final = "https://hc-ping.com/KEY/{entry}"


def checked_ping_template(template: str) -> str:
    """Give the address of all entries, trimmed.

    Raises:
        ValueError: it is none, or does not say where the name of the entry goes.
    """
    if template.count(_PLACE) != 1:
        msg = f"must have {_PLACE} once, where the name of the entry goes, as in {_EXAMPLE}"
        raise ValueError(msg)
    checked_ping_url(template.replace(_PLACE, "entry"))
    return template.strip()


def checked_ping_url(url: str) -> str:
    """Give the address of one entry, trimmed.

    Raises:
        ValueError: it is none.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked by urlsplit only when it is asked for
    except ValueError:
        msg = "is not a URL: write https://hc-ping.com/UUID"
        raise ValueError(msg) from None
    if parts.scheme not in {"http", "https"}:
        msg = f"has the scheme {parts.scheme!r}: only https:// and http:// are spoken"
        raise ValueError(msg)
    if not parts.hostname or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        msg = "needs a host, plain characters, and no part after #: write https://hc-ping.com/UUID"
        raise ValueError(msg)
    return url


def check_entry_name(name: str) -> None:
    """Refuse a name that no entry of the timetable has.

    Raises:
        ValueError: nobody has it; the text says who has a similar one.
    """
    if name in EVERY_ENTRY:
        return
    close = difflib.get_close_matches(name, EVERY_ENTRY, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(EVERY_ENTRY))}"
    msg = f"no entry {name!r} in the timetable; {hint}"
    raise ValueError(msg)
