"""restic (https://restic.net, 0.14 and newer) as the engine of the vaults.

Reading order: `vault.py` (the verbs), `opening.py` (what there is, and making it), `copying.py` (from one vault to
another), `program.py` (how it is run), `saying.py` (its words when all goes well), `failures.py` (when it does not).

What it reports as success and is not, is a failure here: a source that was not there, a snapshot that holds something
else, a listing that left out what it could not read, a restore of full length with a hole in it.
"""

from tasks.backups.store.restic.vault import ResticVault

__all__ = ["ResticVault"]
