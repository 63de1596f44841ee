"""Restore points, their copies, checks and sizes of the vaults."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Whole microseconds since the epoch on SQLite.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
# SQLite gives only "INTEGER PRIMARY KEY" an automatic number.
AUTO_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    _create_restore_points()
    _create_restore_point_copies()
    _create_vault_checks()
    _create_vault_measures()


def downgrade() -> None:
    """Drop them; the vaults keep the points."""
    for table in ("vault_measures", "vault_checks", "restore_point_copies", "restore_points"):
        op.drop_table(table)


def _create_restore_points() -> None:
    op.create_table(
        "restore_points",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("taken_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("staged_bytes", sa.BigInteger(), nullable=False),
        sa.Column("added_bytes", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("is_unchanged", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_held", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("proven_at", INSTANT, nullable=True),
        sa.Column("log_positions", sa.JSON(), nullable=False),
        sa.Column("predicted_rto_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restore_points")),
        sa.UniqueConstraint("run_id", name=op.f("uq_restore_points_run_id")),
    )
    op.create_index(op.f("ix_restore_points_profile_taken_at"), "restore_points", ["profile", "taken_at"])
    op.create_index(op.f("ix_restore_points_chain_sequence"), "restore_points", ["chain", "sequence"])


def _create_restore_point_copies() -> None:
    op.create_table(
        "restore_point_copies",
        sa.Column("point_id", sa.Text(), nullable=False),
        sa.Column("vault", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=False),
        sa.Column("stored_at", INSTANT, nullable=False),
        sa.Column("verified_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["point_id"],
            ["restore_points.id"],
            name=op.f("fk_restore_point_copies_point_id_restore_points"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("point_id", "vault", name=op.f("pk_restore_point_copies")),
    )


def _create_vault_checks() -> None:
    op.create_table(
        "vault_checks",
        sa.Column("id", AUTO_ID, nullable=False),
        sa.Column("vault", sa.Text(), nullable=False),
        sa.Column("checked_at", INSTANT, nullable=False),
        sa.Column("slice", sa.Integer(), nullable=True),
        sa.Column("slices", sa.Integer(), nullable=True),
        sa.Column("is_sound", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_checks")),
    )
    op.create_index(op.f("ix_vault_checks_vault_checked_at"), "vault_checks", ["vault", "checked_at"])


def _create_vault_measures() -> None:
    op.create_table(
        "vault_measures",
        sa.Column("id", AUTO_ID, nullable=False),
        sa.Column("vault", sa.Text(), nullable=False),
        sa.Column("measured_at", INSTANT, nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("staged_bytes", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("free_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_measures")),
    )
    op.create_index(op.f("ix_vault_measures_vault_measured_at"), "vault_measures", ["vault", "measured_at"])
