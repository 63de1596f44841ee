"""The values in SQL: `writing.py` changes them, `reading.py` finds them. Nothing else of the slice knows SQL."""

from tasks.values.store.reading import SqlValueReader
from tasks.values.store.writing import SqlValueWriter

__all__ = ["SqlValueReader", "SqlValueWriter"]
