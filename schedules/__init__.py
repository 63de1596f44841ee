"""When: the timetable, and the arithmetic of its slots. It knows messages, and nothing of what they make the crew do.

A slot is an instant at which an entry is due. Times are UTC throughout, so that no slot is doubled or left out when
clocks change.

Kinds, keys and tables: none of its own; it sends those of the slices.

Reading order: `timetable.py` (everything on one screen), `entries.py` (what an entry says), `slots.py` (arithmetic).
"""
