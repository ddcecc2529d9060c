"""The ledger, table `audit_batches`: whether its rows are those of the commits, and agree with each other."""
