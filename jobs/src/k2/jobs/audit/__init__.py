"""The audit: proof from the tables that nothing is missing, repeated or invented."""
