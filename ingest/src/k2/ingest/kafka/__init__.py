"""Producing to Kafka, and resuming from what Kafka already holds."""
