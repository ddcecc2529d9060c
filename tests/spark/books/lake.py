"""Quotes and order book messages of a test, and a lake with both channels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from k2.common.schema_registry import Registry
from k2.jobs.audit import runner
from k2.schemas import topics
from k2.schemas.channels import BOOK, QUOTES, Channel, exchange_tables
from k2.schemas.codecs import wire
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.records.book import BookKind, BookUpdate
from k2.schemas.records.quote import Quote
from k2.schemas.states import Verdict
from k2.schemas.values import from_micros, to_micros
from tests.spark import empty_tables
from tests.spark.builders import HOUR, Lake, Record, written

CHANNELS: Final = (QUOTES, BOOK)
LATER: Final = HOUR + timedelta(hours=4)
Message = Quote | BookUpdate
FIRST, SECOND = "c1", "c2"  # connections


def quote(ordinal: int, at: datetime | None = None, **changes: Any) -> Quote:
    """Return a quote without a time of the exchange, which arrived at a time: by default `HOUR` plus a minute each."""
    fields = {
        "symbol": "BTCUSDT", "exchange": "BINANCE", "exchange_timestamp": None,
        "ingestion_timestamp": to_micros(at or HOUR + timedelta(minutes=ordinal)), "bid_price": 6_183_700 + ordinal,
        "bid_quantity": 15, "ask_price": 6_183_800 + ordinal, "ask_quantity": 7, "price_exponent": -2,
        "quantity_exponent": -5, "sequence": 100 + ordinal, "connection": FIRST, "ordinal": ordinal,
        "verdict": Verdict.UNVERIFIABLE,
    }  # fmt: skip
    return Quote(**(fields | changes))


def delta(ordinal: int, at: datetime | None = None, **changes: Any) -> BookUpdate:
    """Return an order book message, which arrived at a time: by default `HOUR` plus a minute each."""
    arrived = to_micros(at or HOUR + timedelta(minutes=ordinal))
    fields = {
        "symbol": "BTCUSDT", "exchange": "BINANCE", "exchange_timestamp": arrived,
        "ingestion_timestamp": arrived, "kind": BookKind.DELTA, "bids": ((6_183_700 + ordinal, 15),),
        "asks": ((6_183_800 + ordinal, 0),), "price_exponent": -2, "quantity_exponent": -5, "connection": FIRST,
        "ordinal": ordinal, "verdict": Verdict.VERIFIED, "first_id": 100 + ordinal, "last_id": 100 + ordinal,
    }  # fmt: skip
    return BookUpdate(**(fields | changes))


@dataclass
class Books:
    """A lake with a feed that records quotes and books, and a time of audits."""

    lake: Lake
    feed: ExchangeFeed
    encoders: Mapping[str, Any] = field(default_factory=dict)

    def arrive(self, *records: Message | Record, channel: Channel = BOOK, partition: int = 0) -> None:
        """Commit one Bronze batch of a channel."""
        encoder = self.encoders[channel.name]
        values = [
            entry
            if isinstance(entry, Record)
            else Record(encoder.encode(entry), entry.symbol, from_micros(entry.ingestion_timestamp))
            for entry in records
        ]
        self.lake.arrive(self.feed, values, partition, channel)

    def altered(self, message: Message, **fields: Any) -> Record:
        """Return the record of a message in which these fields hold what no message can: empty names, for example."""
        channel = BOOK if isinstance(message, BookUpdate) else QUOTES
        schema_id, _ = wire.split(self.encoders[channel.name].encode(message))
        return Record(written(message.fields | fields, schema_id, channel.reader_schema), message.symbol)

    def run(self, *layers: str, channels: Iterable[Channel] = CHANNELS) -> None:
        """Run layers of channels; without names, Silver and Gold."""
        for channel in channels:
            self.lake.run(self.feed, *(layers or ("silver", "gold")), channel=channel)

    def gold(self, channel: Channel) -> list[tuple[str, int, int]]:
        """Return connection, ordinal and hour of the rows in Gold, in order."""
        rows = self.lake.table(channel.gold).select("connection", "ordinal", "exchange_hour").collect()
        return sorted((row[0], row[1], row[2]) for row in rows)

    def audit(self, **options: Any) -> runner.Report:
        """Audit both channels."""
        options = {"channels": CHANNELS, "now": LATER} | options
        return runner.audit(self.lake.spark, self.lake.platform, **options)


def books(lake: Lake, **layers: Any) -> Books:
    """Return an empty lake with both channels."""
    # Its time is months ago by now, which must not be its retention.
    feed = lake.feed(**({"bronze": {"retention": "3000d"}, "silver": {"retention": "3000d"}} | layers))
    empty_tables.ensure(lake.spark, lake.platform, exchange_tables("binance", CHANNELS))
    registry = Registry(lake.platform.registry)
    encoders = {
        channel.name: channel.encoder(registry.register(topics.subject(feed.topic(channel)), channel.schema))
        for channel in CHANNELS
    }
    return Books(lake, feed, encoders)


def checks(report: runner.Report) -> Sequence[tuple[str, str]]:
    """Return channel and check of each finding, in order."""
    return sorted((finding.channel, finding.check) for finding in report.findings)
