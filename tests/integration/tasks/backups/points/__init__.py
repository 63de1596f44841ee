"""The mirror of the restore points in real databases."""
