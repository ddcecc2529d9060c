"""From an exchange's websocket to acknowledged records in Kafka: every gap found and, where it can be, repaired."""
