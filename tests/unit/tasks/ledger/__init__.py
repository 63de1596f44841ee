"""The decisions of the ledger."""
