"""Settings of the producer: idempotent, and without any limit that would drop a record."""

from typing import Any

from k2.common.kafka_connection import KafkaConnection


def of(kafka: KafkaConnection, capacity: int, largest: int) -> dict[str, Any]:
    """Return the settings for so many records in flight, and records of so many bytes. Raises `KafkaException`."""
    return {
        **kafka.client(),
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "zstd",
        # No timeout may drop a record: records wait for Kafka, the circuit breaker stops the socket.
        "message.timeout.ms": 0,
        "linger.ms": 1,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": capacity + capacity // 2,
        "queue.buffering.max.kbytes": 256 << 10,
        "message.max.bytes": largest,
        "reconnect.backoff.max.ms": 2000,
        # New partitions are used soon, by every replica; and a producer that lost all its brokers looks for them again.
        "topic.metadata.refresh.interval.ms": 10_000,
        "partitioner": "consistent",  # CRC32 of the key: `k2.ingest.kafka.partitions` does the same
        "log_level": 2,  # its callback for errors logs the rest as JSON
    }
