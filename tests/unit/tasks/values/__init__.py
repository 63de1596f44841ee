"""The values slice without a database."""
