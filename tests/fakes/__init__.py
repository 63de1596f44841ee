"""Plain stand-ins that keep the promises of the real thing, without its world."""
