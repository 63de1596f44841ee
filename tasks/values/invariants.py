"""What is always true of the tables of the values."""

from __future__ import annotations

from typing import Final

from tasks.invariants import Damage, Invariant, nothing_later_than_capture

_GAPLESS: Final = Invariant(
    name="values.versions-have-no-gap",
    says="the versions of each value are numbered from 1 without a gap, and the value is at the last of them",
    tables=("default_values", "default_value_changes"),
    counted="SELECT (SELECT count(*) FROM default_values) + (SELECT count(*) FROM default_value_changes)",
    violations="""
        SELECT key || ' has ' || many || ' versions from ' || first || ' to ' || last FROM (
            SELECT key, context, count(*) AS many, min(version) AS first, max(version) AS last
            FROM default_value_changes GROUP BY key, context
        ) AS trail WHERE first <> 1 OR last <> many
        UNION ALL
        SELECT key || ' is at version ' || version || ', which is not its last one' FROM default_values
        WHERE version <> coalesce((
            SELECT max(line.version) FROM default_value_changes AS line
            WHERE line.key = default_values.key AND line.context = default_values.context
        ), 0)
    """,
    damages=(
        Damage(
            name="version-lost",
            statements=(
                """DELETE FROM default_value_changes WHERE version = 1 AND EXISTS (
                    SELECT 1 FROM default_values WHERE default_values.key = default_value_changes.key
                        AND default_values.context = default_value_changes.context)""",
            ),
            possible="SELECT 1 FROM default_values LIMIT 1",
        ),
        Damage(
            name="value-set-back",
            statements=("UPDATE default_values SET version = version - 1",),
            possible="SELECT 1 FROM default_values LIMIT 1",
        ),
    ),
)

_LIVES: Final = Invariant(
    name="values.deletions-are-on-the-trail",
    says="a value is deleted exactly when its last version is a deletion, and what was purged is there no more",
    tables=("default_values", "default_value_changes"),
    counted="SELECT count(*) FROM default_values",
    violations="""
        SELECT value.key || ' is ' || CASE WHEN value.deleted_at IS NULL THEN 'there' ELSE 'deleted' END
            || ', and its last version is a ' || line.action
        FROM default_values AS value JOIN default_value_changes AS line
            ON line.key = value.key AND line.context = value.context AND line.version = value.version
        WHERE (value.deleted_at IS NULL AND line.action NOT IN ('create', 'update'))
            OR (value.deleted_at IS NOT NULL AND line.action <> 'delete')
    """,
    damages=(
        Damage(
            name="deletion-forgotten",
            statements=("UPDATE default_value_changes SET action = 'purge'",),
            possible="SELECT 1 FROM default_values LIMIT 1",
        ),
    ),
)

_TAGS: Final = Invariant(
    name="values.tags-have-values",
    says="what is found by a tag is there and not deleted",
    tables=("default_values", "default_value_tags"),
    counted="SELECT count(*) FROM default_value_tags",
    violations="""
        SELECT 'the tag ' || tag.tag || ' leads to ' || tag.key || ', which is not there' FROM default_value_tags AS tag
        LEFT JOIN default_values AS value ON value.key = tag.key AND value.context = tag.context
        WHERE value.key IS NULL OR value.deleted_at IS NOT NULL
    """,
    damages=(
        Damage(
            name="tagged-value-deleted",
            statements=("UPDATE default_values SET deleted_at = updated_at",),
            possible="SELECT 1 FROM default_value_tags LIMIT 1",
        ),
    ),
)

INVARIANTS: Final = (
    _GAPLESS,
    _LIVES,
    _TAGS,
    nothing_later_than_capture(
        "values",
        {"default_values": ("created_at", "updated_at", "deleted_at"), "default_value_changes": ("at",)},
    ),
)
