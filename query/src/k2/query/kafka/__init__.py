"""A channel's newest records from Kafka: reading, validating, buffering and merging them."""
