"""Tables of the usage log's counts and of the job ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Whole microseconds since the epoch on SQLite.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
# SQLite gives only "INTEGER PRIMARY KEY" an automatic number.
AUTO_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables of both slices."""
    _create_usage_log()
    _create_usage_counts()
    _create_job_runs()
    _create_dead_letters()


def downgrade() -> None:
    """Drop them."""
    for table in (
        "dead_letters",
        "job_runs",
        "usage_incidents",
        "usage_hours",
        "usage_counts",
        "usage_producers",
        "usage_offsets",
    ):
        op.drop_table(table)


def _create_usage_log() -> None:
    op.create_table(
        "usage_offsets",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("last_id", sa.Text(), nullable=False),
        sa.Column("proven_id", sa.Text(), nullable=True),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_usage_offsets")),
    )
    op.create_table(
        "usage_producers",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("partition", "producer", name=op.f("pk_usage_producers")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_incidents",
        sa.Column("id", AUTO_ID, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("happened_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_incidents")),
    )
    op.create_index(op.f("ix_usage_incidents_happened_at"), "usage_incidents", ["happened_at"])


def _create_usage_counts() -> None:
    op.create_table(
        "usage_counts",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("reset_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reset_accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reset_rejected", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reset_at", INSTANT, nullable=True),
        sa.CheckConstraint("total BETWEEN 0 AND 9223372036854775807", name=op.f("ck_usage_counts_total_is_a_count")),
        sa.CheckConstraint("accepted + rejected <= total", name=op.f("ck_usage_counts_outcomes_within_total")),
        sa.PrimaryKeyConstraint("key", "context", name=op.f("pk_usage_counts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_hours",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "key", "context", name=op.f("pk_usage_hours")),
        sqlite_with_rowid=False,
    )


def _create_job_runs() -> None:
    op.create_table(
        "job_runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("dedup_key", sa.Text(), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", INSTANT, nullable=True),
        sa.Column("heartbeat_at", INSTANT, nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("progress_text", sa.Text(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("enqueued_at", INSTANT, nullable=False),
        sa.Column("queued_at", INSTANT, nullable=False),
        sa.Column("published_at", INSTANT, nullable=True),
        sa.Column("republish_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
    )
    op.create_index(op.f("uq_job_runs_kind_dedup_key"), "job_runs", ["kind", "dedup_key"], unique=True)
    op.create_index(op.f("ix_job_runs_state_queued_at"), "job_runs", ["state", "queued_at"])
    op.create_index(op.f("ix_job_runs_state_republish_at"), "job_runs", ["state", "republish_at"])
    op.create_index(op.f("ix_job_runs_state_lease_until"), "job_runs", ["state", "lease_until"])
    op.create_index(op.f("ix_job_runs_kind_queued_at"), "job_runs", ["kind", "queued_at"])
    op.create_index(op.f("ix_job_runs_updated_at"), "job_runs", ["updated_at"])


def _create_dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", AUTO_ID, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("retried_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("source_id", name=op.f("uq_dead_letters_source_id")),
    )
    op.create_index(op.f("ix_dead_letters_received_at"), "dead_letters", ["received_at"])
