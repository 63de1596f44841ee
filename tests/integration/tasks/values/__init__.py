"""The values slice on real databases."""
