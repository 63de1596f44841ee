"""Kill loops over a real crew: whatever dies, the counts are exact in the end.

Reading order: `uses.py` (what is counted, known in advance), `board.py` and `producing.py` (an app in a process of its
own), `apps.py` (those processes), `sabotage.py` (who is killed and when), `cutting.py` (a bad line), `counting.py` (a
crew, and its counts against the uses).
"""
