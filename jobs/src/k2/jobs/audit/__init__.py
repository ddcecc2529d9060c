"""The audit: checks that no row is missing, duplicated or orphaned in the tables."""
