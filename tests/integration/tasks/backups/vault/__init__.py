"""Vaults kept by restic: its traps, its locks, places that are away, servers that refuse."""
