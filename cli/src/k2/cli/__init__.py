"""The `k2` command: the whole platform on one machine, and queries of its tables."""
