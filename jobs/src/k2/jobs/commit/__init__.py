"""Exactly-once commits: snapshot summaries, checkpoints, lineage, conflict retries."""
