"""The process of a cold restore: reads an order with the kit from standard input, and answers in one line of JSON.

    python -I -m tasks.backups.operations.cold_child < order

It is started by `store/drills/cold.py` and has nothing but what the order says; the fence goes up before the kit is
opened, so that whatever goes for the source is caught, and the drill finds nothing out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.choosing import choose_point
from tasks.backups.drills.drill import PHASES, NotAsStoredError, Room
from tasks.backups.kit import Kit
from tasks.backups.operations.drilling import VaultRestorer
from tasks.backups.operations.listing import list_vault
from tasks.backups.operations.sources import CrewAssembler
from tasks.backups.operations.vaults import vault_from_kit
from tasks.backups.phases import Phases
from tasks.backups.staging import Limits
from tasks.backups.store.drills.fence import Fence, SourceTouchedError
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PRIVATE_SERVERS: Final = ("/tmp/nightcrew-redis-", "/tmp/nightcrew-pg-")  # noqa: S108  where long paths do not fit


class _Silence:
    def report(self, share: float, text: str = "") -> None:
        """Tell nobody."""


def answer_to(order: Mapping[str, Any]) -> dict[str, Any]:
    """Do what an order says inside the fence; give the answer, whatever comes out."""
    room = Room(directory=Path(order["room"]))
    kit = Kit.from_json(order["kit"])
    fence = _fence(order, room, kit)
    fence.put_up()
    try:
        answer = _restored(order, room, kit)
    except NotAsStoredError as error:
        answer = {"outcome": "not as stored", "text": str(error)}
    except TransientError as error:
        answer = {"outcome": "transient", "text": str(error)}
    except PermanentError as error:
        answer = {"outcome": "permanent", "text": str(error)}
    except SourceTouchedError:
        answer = {}
    if fence.touched:
        return {"outcome": "touched", "text": f"the cold restore went for the source: {fence.touched[0]}"}
    return answer


def main(arguments: Sequence[str] = ()) -> None:
    """Answer the order on standard input."""
    del arguments
    speaking = os.dup(1)
    os.dup2(2, 1)  # what is logged is no answer
    answer = answer_to(json.loads(sys.stdin.buffer.read()))
    with os.fdopen(speaking, "w", encoding="utf-8") as out:
        json.dump(answer, out)


def _fence(order: Mapping[str, Any], room: Room, kit: Kit) -> Fence:
    vault = kit.vault("primary").location
    directory = os.path.realpath(room.directory)
    temporary = os.path.realpath(tempfile.gettempdir())
    return Fence(
        closed=list(order["closed"]),
        passages=[directory, *([os.path.realpath(vault)] if vault.startswith("/") else [])],
        sockets=[f"{directory}/", f"{temporary}/nightcrew-redis-", f"{temporary}/nightcrew-pg-", *_PRIVATE_SERVERS],
    )


def _restored(order: Mapping[str, Any], room: Room, kit: Kit) -> dict[str, Any]:
    tools = order["postgresql_tools"]
    assembler = CrewAssembler(
        postgresql_tools=None if tools is None else Path(tools), limits=Limits(nice=0, idle_io=False)
    )
    with vault_from_kit(kit, room.directory, engine=order["engine"]) as opened:
        point = choose_point(list_vault(opened).points, order["point"])
        restorer = VaultRestorer(opened=opened, assembler=assembler, clock=lambda: datetime.now(UTC))
        restored = restorer.restore(point, room, Phases(_Silence(), PHASES))
    return {
        "outcome": "restored",
        "chain": [link.manifest.to_json().decode() for link in restored.links],
        "apply_s": restored.apply_s,
    }


if __name__ == "__main__":
    main()
