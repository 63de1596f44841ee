"""Kill loops and faults over a real crew: whatever happens, counts, jobs and slots are exact in the end.

Reading order: `uses.py` (what is counted, known in advance), `board.py` and `producing.py` (an app in a process of its
own), `apps.py` (those processes), `sabotage.py` (who is killed and when), `cutting.py` (a bad line), `counting.py` (a
crew, and its counts against the uses). Then the jobs: `deeds.py` and `deed_jobs.py` (jobs that leave a trace),
`working.py` (a crew, and its traces against what was asked for), `faults.py` (what befalls it), `nightly.py` (a slot
that a test chooses).
"""
