"""Order books at an instant, rebuilt from the stored snapshots and deltas."""
