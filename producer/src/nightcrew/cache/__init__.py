"""The cache as apps and crew read through it: the extra `nightcrew[cache]`.

Reading order: `policy.py` (how long what is kept), `client.py` (what an app calls), `_recording.py` and what hears it:
`_sampler.py`, `_access_batch.py`, `_shipping.py`, `_access_log.py`.
"""
