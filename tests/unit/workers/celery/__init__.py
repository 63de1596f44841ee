"""How Celery is set up, what passes its guards, when beat is due, what the logs hide."""
