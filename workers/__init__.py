"""The process: how the crew starts, is configured, watched and stopped.

What it does is in `tasks`, when in `schedules`. Owns no table and no message; its files are in `<data_dir>`.

Reading order: `settings/`, `database.py`, `app.py` with `celery_config.py`, `lifecycle.py`, `supervisor/`, `cli/`.
"""
