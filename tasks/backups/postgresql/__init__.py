"""What a PostgreSQL server lets a backup do, and what its restored database is compared with. Nothing here touches it.

Reading order: `abilities.py` (how increments can be taken, or why not), `chain.py` (whether a point may rest on
another), `positions.py` (places in the write-ahead log), `comparing.py` (equal, or in which words not).
"""
