"""The newest trades from Kafka: reading, validating, buffering and merging them."""
