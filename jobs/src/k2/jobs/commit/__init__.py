"""Exactly-once commits: micro-batches, appends, snapshot summaries, checkpoints, lineage and conflict retries."""
