"""Doctor: looks at everything the crew stands on, and says what is wrong and which command mends it.

It changes nothing: no directory is made, no table migrated, no key written.

Kinds, keys and tables: none of its own; it reads those of the slices, of beat and of kombu.

Reading order: `finding.py`, `limits.py` (when a number is too large), `patient.py`, the pure checks `machine.py`,
`broker.py`, `database.py`, `work.py`, `pressure.py`, `timetable.py`, `retention.py` and `backups.py`, each with the
facts it judges, the eyes `machine_sight.py`, `server_sight.py`, `work_sight.py`, `retention_sight.py`,
`backups_sight.py` and `consumers.py` (the only I/O), `examination.py` (everything in order).
"""

from workers.doctor.examination import Examination, examine, examine_crew, examine_installation
from workers.doctor.finding import Finding, Level
from workers.doctor.limits import Limits
from workers.doctor.patient import Patient

__all__ = [
    "Examination",
    "Finding",
    "Level",
    "Limits",
    "Patient",
    "examine",
    "examine_crew",
    "examine_installation",
]
