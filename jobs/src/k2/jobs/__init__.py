"""Kafka to Iceberg: Bronze, Silver and Gold as Structured Streaming, their audit and their maintenance."""
