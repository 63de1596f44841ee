"""Timeline of runs, leases on resources, state of the timetable's entries, pings."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Whole microseconds since the epoch on SQLite.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
# SQLite gives only "INTEGER PRIMARY KEY" an automatic number.
AUTO_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_NEW_INDEXES = (("entry", "slot_at"), ("parent_id",), ("state", "finished_at"))


def upgrade() -> None:
    """Add what a run must know of its slot and its end, and the four tables beside it."""
    for column in _new_columns():
        op.add_column("job_runs", column)
    for columns in _NEW_INDEXES:
        op.create_index(op.f(f"ix_job_runs_{'_'.join(columns)}"), "job_runs", list(columns))
    op.create_index(op.f("ix_dead_letters_retried_at"), "dead_letters", ["retried_at"])
    _create_run_events()
    _create_resource_leases()
    _create_schedule_entries()
    _create_pings()


def downgrade() -> None:
    """Drop them; the runs stay."""
    for table in ("pings", "schedule_entries", "resource_leases", "run_events"):
        op.drop_table(table)
    op.drop_index(op.f("ix_dead_letters_retried_at"), "dead_letters")
    for columns in _NEW_INDEXES:
        op.drop_index(op.f(f"ix_job_runs_{'_'.join(columns)}"), "job_runs")
    for column in reversed(_new_columns()):
        op.drop_column("job_runs", column.name)


def _new_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("first_started_at", INSTANT, nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("entry", sa.Text(), nullable=True),
        sa.Column("slot_at", INSTANT, nullable=True),
        sa.Column("late_after", INSTANT, nullable=True),
        sa.Column("start_before", INSTANT, nullable=True),
        sa.Column("watched", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cancel_requested_at", INSTANT, nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
    ]


def _create_run_events() -> None:
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["job_runs.id"], ondelete="CASCADE", name=op.f("fk_run_events_run_id_job_runs")
        ),
        sa.PrimaryKeyConstraint("run_id", "revision", name=op.f("pk_run_events")),
        sqlite_with_rowid=False,
    )


def _create_resource_leases() -> None:
    op.create_table(
        "resource_leases",
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("run_fence", sa.Integer(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("taken_at", INSTANT, nullable=True),
        sa.Column("lease_until", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_resource_leases")),
    )
    op.create_index(op.f("ix_resource_leases_run_id"), "resource_leases", ["run_id"])


def _create_schedule_entries() -> None:
    op.create_table(
        "schedule_entries",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("walked_until", INSTANT, nullable=False),
        sa.Column("paused_at", INSTANT, nullable=True),
        sa.Column("paused_until", INSTANT, nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule_entries")),
    )


def _create_pings() -> None:
    op.create_table(
        "pings",
        sa.Column("id", AUTO_ID, nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("try_at", INSTANT, nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sent_at", INSTANT, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pings")),
    )
    op.create_index(op.f("ix_pings_sent_at_try_at"), "pings", ["sent_at", "try_at"])
    op.create_index(op.f("ix_pings_entry_id"), "pings", ["entry", "id"])
