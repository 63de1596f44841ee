"""What is always true of the tables of the backups.

Not claimed: that the parent of a point is there (a vault may have lost it, and then the point is told as what it is),
and anything of when a point was taken (a vault may have points of another machine, by its clock).
"""

# ruff: noqa: S608  the queries are put together from what stands here alone

from __future__ import annotations

from typing import Final

from tasks.backups.drills.verdicts import Verdict
from tasks.backups.points import KINDS, PointState
from tasks.invariants import Damage, Invariant, nothing_later_than_capture

_DAMAGED: Final = f"'{PointState.DAMAGED}'"


def _names(values: object) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))  # type: ignore[call-overload]


_CHAINS: Final = Invariant(
    name="backups.chains-hold-together",
    says="a full begins its own chain, and every other point comes right behind a parent of the same chain",
    tables=("restore_points",),
    counted="SELECT count(*) FROM restore_points",
    violations=f"""
        SELECT 'point ' || id || ' is ' || kind || ', ' || state || ', sequence ' || sequence || ' of chain ' || chain
            || ', parent ' || coalesce(parent_id, 'none')
        FROM restore_points
        WHERE kind NOT IN ({_names(KINDS)}) OR state NOT IN ({_names(PointState)}) OR (state <> {_DAMAGED} AND (
            (kind = 'full' AND (sequence <> 0 OR parent_id IS NOT NULL OR chain <> id))
            OR (kind <> 'full' AND (sequence < 1 OR parent_id IS NULL OR chain = id))
        ))
        UNION ALL
        SELECT 'point ' || point.id || ' is number ' || point.sequence || ' of chain ' || point.chain || ', its parent '
            || parent.id || ' is number ' || parent.sequence || ' of chain ' || parent.chain
        FROM restore_points AS point JOIN restore_points AS parent ON parent.id = point.parent_id
        WHERE point.state <> {_DAMAGED} AND parent.state <> {_DAMAGED} AND (
            point.chain <> parent.chain OR point.profile <> parent.profile OR point.sequence <> parent.sequence + 1
            OR (point.kind = 'differential' AND parent.kind <> 'full')
        )
    """,
    damages=(
        Damage(
            name="link-skipped",
            statements=(f"UPDATE restore_points SET sequence = sequence + 1 WHERE state <> {_DAMAGED}",),
            possible=f"SELECT 1 FROM restore_points WHERE kind = 'full' AND state <> {_DAMAGED} LIMIT 1",
        ),
        Damage(
            name="parent-forgotten",
            statements=(f"UPDATE restore_points SET parent_id = NULL WHERE state <> {_DAMAGED}",),
            possible=f"SELECT 1 FROM restore_points WHERE kind <> 'full' AND state <> {_DAMAGED} LIMIT 1",
        ),
        Damage(
            name="state-unknown",
            statements=("UPDATE restore_points SET state = 'fine'",),
            possible="SELECT 1 FROM restore_points LIMIT 1",
        ),
    ),
)

_COPIES: Final = Invariant(
    name="backups.points-lie-somewhere",
    says="every point that is listed lies in a vault, and every copy in a vault is one of a listed point",
    tables=("restore_points", "restore_point_copies"),
    counted="SELECT (SELECT count(*) FROM restore_points) + (SELECT count(*) FROM restore_point_copies)",
    violations="""
        SELECT 'point ' || id || ' lies in no vault' FROM restore_points
        WHERE NOT EXISTS (SELECT 1 FROM restore_point_copies WHERE point_id = restore_points.id)
        UNION ALL
        SELECT 'vault ' || vault || ' has a copy of ' || point_id || ', which nobody knows' FROM restore_point_copies
        WHERE NOT EXISTS (SELECT 1 FROM restore_points WHERE id = restore_point_copies.point_id)
    """,
    damages=(
        Damage(
            name="copies-lost",
            statements=("DELETE FROM restore_point_copies",),
            possible="SELECT 1 FROM restore_points LIMIT 1",
        ),
    ),
)

_DRILLS: Final = Invariant(
    name="backups.drills-add-up",
    says="a drill has one of three verdicts, rejects no more mutants than it made, and passes only if it rejects all",
    tables=("drills",),
    counted="SELECT count(*) FROM drills",
    violations=f"""
        SELECT 'drill ' || id || ' says ' || verdict || ' with ' || killed || ' of ' || total || ' mutants rejected'
        FROM drills
        WHERE verdict NOT IN ({_names(Verdict)}) OR killed < 0 OR killed > total
            OR (verdict = '{Verdict.PASS}' AND killed <> total)
    """,
    damages=(
        Damage(
            name="more-rejected-than-made",
            statements=("UPDATE drills SET killed = total + 1",),
            possible="SELECT 1 FROM drills LIMIT 1",
        ),
        Damage(
            name="passed-with-a-survivor",
            statements=(f"UPDATE drills SET verdict = '{Verdict.PASS}', total = total + 1, killed = total",),
            possible="SELECT 1 FROM drills LIMIT 1",
        ),
    ),
)

_CHECKS: Final = Invariant(
    name="backups.vaults-are-read-slice-by-slice",
    says="a check of a vault reads one of its slices, or the structure alone",
    tables=("vault_checks",),
    counted="SELECT count(*) FROM vault_checks",
    violations="""
        SELECT 'check ' || id || ' of vault ' || vault || ' read slice ' || coalesce(slice, 0) || ' of '
            || coalesce(slices, 0)
        FROM vault_checks
        WHERE (slice IS NULL) <> (slices IS NULL) OR slice < 1 OR slice > slices
    """,
    damages=(
        Damage(
            name="slice-beyond-the-last",
            statements=("UPDATE vault_checks SET slice = 2, slices = 1",),
            possible="SELECT 1 FROM vault_checks LIMIT 1",
        ),
    ),
)

INVARIANTS: Final = (
    _CHAINS,
    _COPIES,
    _DRILLS,
    _CHECKS,
    nothing_later_than_capture(
        "backups",
        {
            "restore_points": ["proven_at"],
            "restore_point_copies": ["verified_at"],
            "vault_checks": ["checked_at"],
            "vault_measures": ["measured_at"],
            "drills": ["asked_at", "finished_at"],
        },
    ),
)
