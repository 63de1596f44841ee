"""Steps that bring the database from one version of the service to the next; `workers.database.migrate` runs them.

A step is written by hand, never changed after a release, and spells out names and types: it must do the
same in ten years, whatever the tables of the slices look like then. `tests/integration/workers/database`
compares the end of the chain with those tables, on both databases.

New step: copy the newest file in `versions/`, count its number up, set `down_revision`.
"""
