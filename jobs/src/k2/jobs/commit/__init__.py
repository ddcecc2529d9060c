"""Exactly-once commits: appends, snapshot summaries, checkpoints, lineage and conflict retries."""
