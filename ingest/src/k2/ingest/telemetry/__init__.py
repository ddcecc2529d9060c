"""Counters, Prometheus metrics and the status server of an ingest process."""
