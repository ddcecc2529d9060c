"""What the embedded platform holds of one exchange, as the judge asks for it: Gold, gap events, dead letters."""

import json
from contextlib import closing
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from k2.ingest.kafka.resume import read_records
from k2.ingest.sequencing.gaps import GapEvent, decode
from k2.ingest.simulator.server import Simulator
from k2.schemas import topics
from k2.schemas.values import to_micros
from tests.system.harness import Running


class Recorded:
    """The tables and topics of one exchange while the platform runs; `read` takes them as they are now."""

    def __init__(self, running: Running, simulator: Simulator) -> None:
        self._running, self._spec = running, simulator.venue.spec
        self.pairs = [item.pair for item in simulator.venue.listings]
        self.stats = SimpleNamespace(refused={})
        self._rows: list[dict[str, Any]] = []
        self._gaps: list[GapEvent] = []
        self._dead_letters: list[tuple[bytes, str]] = []

    def read(self) -> None:
        """Read everything again."""
        name = self._spec.name
        columns = "symbol, trade_id, message_id, price, quantity, side, timestamp, vendor_data"
        rows = self._running.sql(f"SELECT {columns} FROM gold_crypto_trades WHERE exchange = '{self._spec.label}'")
        self._rows = [row | {"vendor_data": json.loads(row["vendor_data"])} for row in rows]
        self._gaps = [decode(message.value()) for message in self._topic(topics.gaps(name))]
        letters = self._topic(topics.dead_letters(name))
        self._dead_letters = [(message.value(), dict(message.headers())["k2-error"].decode()) for message in letters]

    def stored(self) -> list[dict[str, Any]]:
        """Return the trades in Gold."""
        return self._rows

    def gap_events(self) -> list[GapEvent]:
        """Return the gap events, in order."""
        return self._gaps

    def dead_letters(self) -> list[tuple[bytes, str]]:
        """Return the frames in the topic of dead letters, and the kind of error of each."""
        return self._dead_letters

    def unlike_table(self, until: int) -> list[str]:
        """Return the gaps up to a time, in UTC microseconds, whose state the table `audit_gaps` lacks."""
        query = f"SELECT gap_id, state FROM audit_gaps WHERE exchange = '{self._spec.label}'"
        states = {row["gap_id"]: row["state"] for row in self._running.sql(query)}
        detected = [event for event in self._gaps if to_micros(datetime.fromisoformat(event.detected_at)) <= until]
        newest = {event.gap_id: event.state.value for event in detected}
        return [
            f"gap {gap_id} is {state}, and {states.get(gap_id)} in audit_gaps"
            for gap_id, state in newest.items()
            if states.get(gap_id) != state
        ]

    def _topic(self, topic: str) -> list[Any]:
        address = f"127.0.0.1:{self._running.state.ports['kafka']}"
        with closing(Consumer({"bootstrap.servers": address, "group.id": "judge", "enable.auto.commit": False})) as own:
            _, end = own.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
            return read_records(own, topic, 0, 0, end)
