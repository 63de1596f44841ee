"""Flower's pages, as a browser that is logged in gets them."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

    from workers.supervisor.crew_file import CrewRecord

_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Pages:
    """A Flower, and how to get in."""

    url: str
    user: str
    password: str

    @classmethod
    def of_crew(cls, data_dir: Path, record: CrewRecord) -> Self:
        """Give those of a crew that runs."""
        assert record.flower is not None
        password = (data_dir / "flower.password").read_text(encoding="ascii").strip()
        return cls(url=record.flower.url, user=record.flower.user, password=password)

    def get(self, path: str) -> tuple[int, str]:
        """Give status and text of a page; an error has a text too."""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(f"{self.url}{path}", headers={"Authorization": f"Basic {login}"})  # noqa: S310  a page of the test's own
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  see above
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
