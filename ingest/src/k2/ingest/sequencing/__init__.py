"""Sequence tracking: gaps, duplicates and conflicts, and the ledger of open gaps."""
