"""Settings: sources, refusals, documents."""
