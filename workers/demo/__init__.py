"""The demo: the whole main job once, on real events, through real processes, with a worker killed in the middle.

Reading order: `events.py` (what is counted), `proof.py` (what must hold in the end), `sabotage.py` (what goes wrong on
purpose), `demonstration.py` (the run). `workers/cli/demo.py` shows it.
"""
