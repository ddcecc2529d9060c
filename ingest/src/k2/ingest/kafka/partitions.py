"""The partition of a key, as librdkafka's partitioner `consistent` chooses it."""

import zlib


def partition_of(key: bytes, count: int) -> int:
    """Return the partition of `key` in a topic of `count` partitions."""
    return zlib.crc32(key) % count
