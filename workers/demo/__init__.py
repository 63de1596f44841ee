"""The demo: real events through real processes.

Reading order: `events.py` (the sample of `data/`).
"""
