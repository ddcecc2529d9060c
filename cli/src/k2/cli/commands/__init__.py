"""One module per command of `k2`."""
