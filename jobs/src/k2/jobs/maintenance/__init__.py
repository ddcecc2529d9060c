"""Table maintenance while the streams run: retention, compaction, expiry, bars, tags."""
