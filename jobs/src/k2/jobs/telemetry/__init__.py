"""Metrics, the status server and one-line error summaries of a jobs process."""
