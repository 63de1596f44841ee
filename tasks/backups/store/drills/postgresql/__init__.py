"""A restored PostgreSQL database: served by a server of our own, compared, and damaged where it harms nobody.

Reading order: `serving.py`, `examiner.py`, `damages.py`, `mutants.py`.
"""

from tasks.backups.store.drills.postgresql.examiner import PostgresqlExaminer
from tasks.backups.store.drills.postgresql.serving import serving

__all__ = ["PostgresqlExaminer", "serving"]
