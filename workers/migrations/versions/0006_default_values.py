"""Default values, their tags, and the trail of their changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Whole microseconds since the epoch on SQLite.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
# In the order of code points on either database.
ORDERED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    _create_default_values()
    op.create_table(
        "default_value_tags",
        sa.Column("tag", ORDERED, nullable=False),
        sa.Column("key", ORDERED, nullable=False),
        sa.Column("context", ORDERED, nullable=False),
        sa.PrimaryKeyConstraint("tag", "key", "context", name="pk_default_value_tags"),
        sa.ForeignKeyConstraint(
            ["key", "context"],
            ["default_values.key", "default_values.context"],
            name="fk_default_value_tags_key_context_default_values",
            ondelete="CASCADE",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_default_value_tags_key_context", "default_value_tags", ["key", "context"])
    op.create_table(
        "default_value_changes",
        sa.Column("key", ORDERED, nullable=False),
        sa.Column("context", ORDERED, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("value", sa.JSON(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key", "context", "version", name="pk_default_value_changes"),
    )
    op.create_index("ix_default_value_changes_at", "default_value_changes", ["at"])


def downgrade() -> None:
    """Drop them, with everything in them."""
    for table in ("default_value_changes", "default_value_tags", "default_values"):
        op.drop_table(table)


def _create_default_values() -> None:
    op.create_table(
        "default_values",
        sa.Column("key", ORDERED, nullable=False),
        sa.Column("context", ORDERED, nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("key", "context", name="pk_default_values"),
    )
    op.create_index("ix_default_values_updated_at_key_context", "default_values", ["updated_at", "key", "context"])
    op.create_index("ix_default_values_created_at_key_context", "default_values", ["created_at", "key", "context"])
    op.create_index("ix_default_values_deleted_at", "default_values", ["deleted_at"])
