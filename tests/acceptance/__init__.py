"""The crew as a person meets it: the command, real workers, real servers."""
