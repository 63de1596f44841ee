"""What apps asked of their cache: exact counters by hour, and how far the access log is taken in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Whole microseconds since the epoch on SQLite.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


_COUNTERS = ("requests", "hits", "misses", "sets", "deletes", "bytes_read", "bytes_written", "dropped")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "cache_hours",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTERS),
        *(
            sa.CheckConstraint(
                f"{name} BETWEEN 0 AND 9223372036854775807", name=op.f(f"ck_cache_hours_{name}_is_a_count")
            )
            for name in ("requests", "sets", "deletes", "bytes_read", "bytes_written", "dropped")
        ),
        sa.CheckConstraint("hits + misses = requests", name=op.f("ck_cache_hours_a_request_hits_or_misses")),
        sa.PrimaryKeyConstraint("hour", "family", name="pk_cache_hours"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "access_offsets",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("last_id", sa.Text(), nullable=False),
        sa.Column("settled", sa.JSON(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_access_offsets"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "access_producers",
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("producer", name="pk_access_producers"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_access_producers_seen_at", "access_producers", ["seen_at"])
    op.create_table(
        "access_incidents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("happened_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_incidents"),
    )
    op.create_index("ix_access_incidents_happened_at", "access_incidents", ["happened_at"])


def downgrade() -> None:
    """Drop them, with everything in them."""
    for table in ("access_incidents", "access_producers", "access_offsets", "cache_hours"):
        op.drop_table(table)
