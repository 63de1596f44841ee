"""What restore tests have found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Whole microseconds since the epoch on SQLite.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
# SQLite gives only "INTEGER PRIMARY KEY" an automatic number.
AUTO_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "drills",
        sa.Column("id", AUTO_ID, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("way", sa.Text(), nullable=False),
        sa.Column("point_id", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("chosen_because", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Float(), nullable=True)
            for name in ("fetch_s", "apply_s", "validate_s", "rto_s", "rpo_s")
        ),
        sa.Column("checks", sa.JSON(), nullable=False),
        sa.Column("mutants", sa.JSON(), nullable=False),
        sa.Column("killed", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("timeline", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drills"),
    )
    op.create_index("ix_drills_finished_at", "drills", ["finished_at"])
    op.create_index("ix_drills_point_id_finished_at", "drills", ["point_id", "finished_at"])


def downgrade() -> None:
    """Drop it; the points keep when they were proven."""
    op.drop_table("drills")
