"""Runs the steps on the connection that `workers.database.migrate` hands over, within its transaction."""

from __future__ import annotations

from alembic import context

import tasks.backups.tables
import tasks.ledger.tables
import tasks.ttl.tables
import tasks.usage.tables
import tasks.values.tables  # noqa: F401  imported so that the metadata has their tables
from tasks.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a table in place: alembic then copies it.
    render_as_batch=True,
    # The caller holds a transaction, and on SQLite too it covers changes to tables.
    transactional_ddl=True,
)
context.run_migrations()
