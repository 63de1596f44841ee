"""What is always true of the usage tables."""

# ruff: noqa: S608  the queries are put together from what stands here alone

from __future__ import annotations

from typing import Final

from nightcrew.wire import MAX_FUTURE_HOURS
from tasks.invariants import Damage, Invariant, nothing_later_than_capture

_DIGITS: Final = "'0123456789'"
_HOUR_MS: Final = 3_600_000


def _milliseconds(entry_id: str) -> str:
    """Give the part of an entry's id before its hyphen, as text."""
    return f"rtrim(rtrim({entry_id}, {_DIGITS}), '-')"


def _sequence(entry_id: str) -> str:
    """Give the part behind it."""
    return f"ltrim(ltrim({entry_id}, {_DIGITS}), '-')"


def _is_id(entry_id: str) -> str:
    """Say whether it is digits, one hyphen, digits."""
    is_two = f"{entry_id} LIKE '_%-_%' AND {entry_id} NOT LIKE '%--%'"
    before, behind = _milliseconds(entry_id), _sequence(entry_id)
    return f"({is_two} AND rtrim({before}, {_DIGITS}) = '' AND rtrim({behind}, {_DIGITS}) = '')"


def _number(part: str, entry_id: str) -> str:
    """Read a part; of what is no id, which is another invariant's to tell, it is NULL."""
    return f"CASE WHEN {_is_id(entry_id)} THEN CAST({part} AS NUMERIC) END"


def _is_beyond(entry_id: str, other: str) -> str:
    """Say whether an entry comes behind another; ids do not sort as text."""
    ahead, behind = (_number(_milliseconds(one), one) for one in (entry_id, other))
    further, nearer = (_number(_sequence(one), one) for one in (entry_id, other))
    return f"({ahead} > {behind} OR ({ahead} = {behind} AND {further} > {nearer}))"


_SUMS: Final = Invariant(
    name="usage.hours-sum-to-counts",
    says="the history of each key in each context sums to its count and what resets took off, and neither is alone",
    tables=("usage_counts", "usage_hours"),
    counted="SELECT (SELECT count(*) FROM usage_hours) + (SELECT count(*) FROM usage_counts)",
    # One pass over each table, and both directions at once.
    violations="""
        SELECT 'key ' || substr(key, 1, 100) || ' in context ' || substr(context, 1, 100) || ': the history sums to '
            || (CASE WHEN sum(hours) = 0 THEN 'nothing' WHEN sum(counts) = 0 THEN 'something without a count'
                     ELSE 'another number' END)
            || ', ' || sum(total) || ' of total, ' || sum(accepted) || ' of accepted, ' || sum(rejected)
            || ' of rejected beside the count'
        FROM (
            SELECT key, context, total, accepted, rejected, 1 AS hours, 0 AS counts FROM usage_hours
            UNION ALL
            SELECT key, context, -total - reset_total, -accepted - reset_accepted, -rejected - reset_rejected, 0, 1
            FROM usage_counts
        ) AS both_sides
        GROUP BY key, context
        HAVING sum(total) <> 0 OR sum(accepted) <> 0 OR sum(rejected) <> 0 OR sum(hours) = 0 OR sum(counts) = 0
    """,
    damages=(
        Damage(
            name="count-off-by-one",
            statements=(
                (
                    "UPDATE usage_counts SET total = total + 1 "
                    "WHERE (key, context) IN (SELECT key, context FROM usage_counts LIMIT 1)"
                ),
            ),
            possible="SELECT 1 FROM usage_counts LIMIT 1",
        ),
        Damage(
            name="outcome-off-by-one",
            statements=(
                (
                    "UPDATE usage_hours SET total = total + 1, accepted = accepted + 1 "
                    "WHERE (hour, key, context) IN (SELECT hour, key, context FROM usage_hours LIMIT 1)"
                ),
                (
                    "UPDATE usage_counts SET total = total + 1 "
                    "WHERE (key, context) IN (SELECT key, context FROM usage_hours LIMIT 1)"
                ),
            ),
            possible="SELECT 1 FROM usage_hours LIMIT 1",
        ),
        Damage(
            name="hour-lost",
            statements=(
                (
                    "DELETE FROM usage_hours "
                    "WHERE (hour, key, context) IN (SELECT hour, key, context FROM usage_hours LIMIT 1)"
                ),
            ),
            possible="SELECT 1 FROM usage_hours LIMIT 1",
        ),
        Damage(
            name="count-lost",
            statements=(
                "DELETE FROM usage_counts WHERE (key, context) IN (SELECT key, context FROM usage_counts LIMIT 1)",
            ),
            possible="SELECT 1 FROM usage_counts LIMIT 1",
        ),
        Damage(
            name="reset-forgotten",
            statements=("UPDATE usage_counts SET reset_total = 0",),
            possible="SELECT 1 FROM usage_counts WHERE reset_total > 0 LIMIT 1",
        ),
    ),
)

_OUTCOMES: Final = Invariant(
    name="usage.outcomes-within-total",
    says="no hour counts nothing, none counts more outcomes than uses, and what resets took off does neither",
    tables=("usage_counts", "usage_hours"),
    counted="SELECT (SELECT count(*) FROM usage_hours) + (SELECT count(*) FROM usage_counts)",
    violations="""
        SELECT 'hour ' || hour || ' of key ' || substr(key, 1, 100) || ': ' || accepted || ' accepted and '
            || rejected || ' rejected of ' || total
        FROM usage_hours WHERE total < 1 OR accepted < 0 OR rejected < 0 OR accepted > total - rejected
        UNION ALL
        SELECT 'key ' || substr(key, 1, 100) || ': ' || accepted || ' accepted and ' || rejected || ' rejected of '
            || total || ', and ' || reset_accepted || ' and ' || reset_rejected || ' of ' || reset_total || ' before'
        FROM usage_counts
        WHERE accepted < 0 OR rejected < 0 OR accepted > total - rejected
            OR reset_total < 0 OR reset_accepted < 0 OR reset_rejected < 0
            OR reset_accepted > reset_total - reset_rejected
    """,
    damages=(
        Damage(
            name="more-accepted-than-used",
            statements=(
                (
                    "UPDATE usage_hours SET accepted = total + 1 "
                    "WHERE (hour, key, context) IN (SELECT hour, key, context FROM usage_hours LIMIT 1)"
                ),
            ),
            possible="SELECT 1 FROM usage_hours LIMIT 1",
        ),
        Damage(
            name="negative-reset",
            statements=(
                (
                    "UPDATE usage_counts SET reset_total = -1 "
                    "WHERE (key, context) IN (SELECT key, context FROM usage_counts LIMIT 1)"
                ),
            ),
            possible="SELECT 1 FROM usage_counts LIMIT 1",
        ),
    ),
)

_OFFSETS: Final = Invariant(
    name="usage.offsets-well-formed",
    says="every offset names the log that it belongs to, and an entry as the log names its entries",
    tables=("usage_offsets",),
    counted="SELECT count(*) FROM usage_offsets",
    violations=f"""
        SELECT 'partition ' || partition || ' stands at ' || last_id || ' of epoch "' || epoch || '", proven up to '
            || coalesce(proven_id, 'nothing')
        FROM usage_offsets
        WHERE partition < 0 OR epoch = '' OR NOT {_is_id("last_id")}
            OR (proven_id IS NOT NULL AND NOT {_is_id("proven_id")})
    """,
    damages=(
        Damage(
            name="epoch-lost",
            statements=("UPDATE usage_offsets SET epoch = ''",),
            possible="SELECT 1 FROM usage_offsets LIMIT 1",
        ),
        Damage(
            name="id-without-number",
            statements=(f"UPDATE usage_offsets SET last_id = {_milliseconds('last_id')} || '-'",),
            possible="SELECT 1 FROM usage_offsets LIMIT 1",
        ),
    ),
)

_PROVEN: Final = Invariant(
    name="usage.proven-not-beyond-applied",
    says="no more of the log is proven than is applied",
    tables=("usage_offsets",),
    counted="SELECT count(*) FROM usage_offsets",
    violations=f"""
        SELECT 'partition ' || partition || ' is proven up to ' || proven_id || ', and stands at ' || last_id
        FROM usage_offsets WHERE proven_id IS NOT NULL AND {_is_beyond("proven_id", "last_id")}
    """,
    damages=(
        Damage(
            name="proven-one-further",
            statements=(
                (
                    f"UPDATE usage_offsets SET proven_id = {_milliseconds('last_id')} || '-' || "
                    f"CAST(CAST({_sequence('last_id')} AS NUMERIC) + 1 AS TEXT)"
                ),
            ),
            possible=f"SELECT 1 FROM usage_offsets WHERE {_is_id('last_id')} LIMIT 1",
        ),
        Damage(
            name="proven-longer-id",
            statements=(f"UPDATE usage_offsets SET proven_id = '1' || {_milliseconds('last_id')} || '-0'",),
            possible=f"SELECT 1 FROM usage_offsets WHERE {_is_id('last_id')} LIMIT 1",
        ),
    ),
)

_PRODUCERS: Final = Invariant(
    name="usage.producers-have-offsets",
    says="what is known of a producer belongs to a partition with an offset, and to a flush",
    tables=("usage_producers", "usage_offsets"),
    counted="SELECT count(*) FROM usage_producers",
    violations="""
        SELECT 'producer ' || producer || ' of partition ' || partition || ' is at flush ' || last_seq
        FROM usage_producers
        WHERE last_seq < 1 OR NOT EXISTS (
            SELECT 1 FROM usage_offsets WHERE usage_offsets.partition = usage_producers.partition
        )
    """,
    damages=(
        Damage(
            name="offsets-lost",
            statements=("DELETE FROM usage_offsets",),
            possible="SELECT 1 FROM usage_producers LIMIT 1",
        ),
        Damage(
            name="flush-before-the-first",
            statements=("UPDATE usage_producers SET last_seq = 0",),
            possible="SELECT 1 FROM usage_producers LIMIT 1",
        ),
    ),
)

_HOURS: Final = Invariant(
    name="usage.no-hour-in-the-future",
    says=f"no hour of the history lies more than {MAX_FUTURE_HOURS} hours ahead of the capture and of the log",
    tables=("usage_hours", "usage_offsets"),
    counted="SELECT count(*) FROM usage_hours",
    # Of the log as well: the clock of Redis is not the crew's, and ids go on from where it once was.
    violations=f"""
        SELECT 'hour ' || hour || ' of ' || count(*) || ' keys lies in the future' FROM usage_hours
        WHERE hour > :latest_hour + {MAX_FUTURE_HOURS} AND hour > {MAX_FUTURE_HOURS} + (
            SELECT coalesce(max({_number(_milliseconds("last_id"), "last_id")} / {_HOUR_MS}), 0) FROM usage_offsets
        )
        GROUP BY hour
    """,
    damages=(
        Damage(
            name="hour-far-ahead",
            statements=(
                (
                    "UPDATE usage_hours SET hour = hour + 1000000 "
                    "WHERE (hour, key, context) IN (SELECT hour, key, context FROM usage_hours LIMIT 1)"
                ),
            ),
            possible="SELECT 1 FROM usage_hours LIMIT 1",
        ),
    ),
)

INVARIANTS: Final = (
    _SUMS,
    _OUTCOMES,
    _OFFSETS,
    _PROVEN,
    _PRODUCERS,
    _HOURS,
    # Not `usage_counts.reset_at`: that is by the clock of Redis.
    nothing_later_than_capture(
        "usage",
        {"usage_offsets": ["updated_at"], "usage_producers": ["seen_at"], "usage_incidents": ["happened_at"]},
    ),
)
