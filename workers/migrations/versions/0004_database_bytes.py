"""What of a restore point is of the database: a large Redis beside it makes no chain too long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; points that are there already get it from their manifests, when the vault is looked at."""
    op.add_column("restore_points", sa.Column("database_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("restore_points", "database_bytes")
