"""Table maintenance while the streams run: retention, compaction, snapshot expiry, bars and tags."""
