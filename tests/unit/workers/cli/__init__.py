"""The command: verbs, output, errors."""
