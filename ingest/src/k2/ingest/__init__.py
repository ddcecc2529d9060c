"""Ingest: from an exchange's websocket to acknowledged Kafka records, with gap detection and repair."""
