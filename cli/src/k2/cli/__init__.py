"""The `k2` command: the whole platform on one machine, and a client of its tables."""
