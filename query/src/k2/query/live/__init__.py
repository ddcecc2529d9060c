"""The live stream: one Kafka consumer, any number of subscribers."""
