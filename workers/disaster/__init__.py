"""The disaster simulation: a small crew under load loses everything, comes back, and is compared with what it was.

Reading order: `place.py` (the scratch directory and what is destroyed in it), `load.py` (the apps), `crew.py` (the
processes), `comeback.py` (from the vault to a crew that runs), `simulation.py` (all of it in its order).
"""

from workers.disaster.simulation import simulate_disaster

__all__ = ["simulate_disaster"]
