"""How fast it is, as ratios measured in one run: `python -m tests.benchmarks`, or `make bench`.

Nothing here asserts a time: a shared machine would fail it for no reason. Every count is compared key by key, and a
wrong one fails the run.

Reading order: `workloads.py` (what is counted), `measuring.py` (rounds and medians), `floors.py` and `bare.py` (what we
are compared with), `whole_path.py` (a real crew), `counting.py` (all of them in one table), `jobs.py` (latency and
throughput of jobs), `memory.py`, `machine.py`, `report.py`.
"""
