"""When the producer must be replaced because the files of its identity have changed: librdkafka reads them once."""

from typing import Final

from k2.common.kafka_connection import KafkaConnection

PATIENCE: Final = 10.0  # seconds that a replacement waits for a moment without records in flight


class IdentityFiles:
    """Follows the files with which a producer identifies itself and the brokers."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._version = kafka.version()
        self._changed_at: float | None = None

    def due(self, in_flight: int, now: float) -> bool:
        """Return once after a change whether to replace the producer; `now` is in seconds of a monotonic clock.

        Records in flight would be sent twice, with one id, so a moment without any is waited for, but not for long.
        """
        version = self._kafka.version()
        if version == self._version:
            self._changed_at = None
            return False
        if self._changed_at is None:
            self._changed_at = now
        if in_flight and now - self._changed_at < PATIENCE:
            return False
        self._version, self._changed_at = version, None
        return True
