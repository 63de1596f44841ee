"""The predictions slice on real files and in real processes."""
