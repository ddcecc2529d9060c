"""Builders of trades, Bronze rows and queries for the Spark tests, on a lake of a few rows."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from fastavro import schemaless_writer
from pyspark.sql import DataFrame, SparkSession

from k2.common.platform import Platform
from k2.ingest.simulator.listings import pair_of
from k2.jobs.commit.appender import Appender
from k2.jobs.commit.checkpoints import path
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.jobs.spark.local_frames import local_frame
from k2.jobs.stream import GAPS, Stream, initial_state, query_folder
from k2.schemas import tables
from k2.schemas.channels import TRADES, Channel, exchange_tables
from k2.schemas.codecs import avro, wire
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.records.trade import Side, Trade, message_id
from k2.schemas.snapshots import EXCHANGE, OFFSETS, ROWS_IN, STARTED
from k2.schemas.tables import Table
from k2.schemas.values import decimal, from_micros, to_micros
from tests.spark import empty_tables

HOUR = datetime(2026, 3, 2, 10, tzinfo=UTC)  # every trade's hour unless a test says otherwise
NATIVE = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD", "bybit": "BTCUSDT", "okx": "BTC-USDT"}


def trade(number: int | str, at: datetime | None = None, *, exchange: str = "binance", **changes: Any) -> Trade:
    """Return a trade; by default its time is `HOUR` plus its number in seconds."""
    pair = pair_of(EXCHANGES[exchange], NATIVE[exchange])
    when = at or HOUR + timedelta(seconds=int(number) if str(number).isdigit() else 0)
    fields = {
        "trade_id": str(number), "symbol": pair.symbol, "exchange": exchange.upper(), "base_asset": pair.base,
        "quote_currency": pair.quote, "timestamp": to_micros(when), "price": 61_837_630_000_000_000,
        "quantity": 20_000_000_000, "side": Side.BUY, "ingestion_timestamp": to_micros(when) + 5_000,
        "vendor_data": (("source", "live"),),
    }  # fmt: skip
    return Trade(**(fields | changes))


def as_record(trade: Trade) -> dict[str, Any]:
    """Return the trade as a record for fastavro."""
    return {
        "message_id": str(message_id(trade.exchange, trade.symbol, trade.trade_id)),
        "trade_id": trade.trade_id, "symbol": trade.symbol, "exchange": trade.exchange,
        "base_asset": trade.base_asset, "quote_currency": trade.quote_currency, "side": trade.side.value,
        "timestamp": from_micros(trade.timestamp), "price": decimal(trade.price), "quantity": decimal(trade.quantity),
        "ingestion_timestamp": from_micros(trade.ingestion_timestamp), "vendor_data": dict(trade.vendor_data),
    }  # fmt: skip


def written(record: dict[str, Any], schema_id: int, schema: dict[str, Any] | None = None) -> bytes:
    """Return a Kafka value, encoded by fastavro with any schema."""
    body = BytesIO()
    schemaless_writer(body, schema or avro.load(), record)
    return wire.header(schema_id) + body.getvalue()


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record."""

    value: bytes | None
    key: str | None = "BTCUSDT"
    at: datetime = HOUR + timedelta(minutes=59)


@dataclass
class Lake:
    """The tables, checkpoints and schemas of one test."""

    spark: SparkSession
    platform: Platform
    schema_id: int
    stored_at: datetime | None = None  # Bronze timestamp of all rows; None: the time of arrival
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)  # the next one of a topic's partition
    epoch: int = 0  # of the next Bronze batch

    def feed(self, exchange: str = "binance", name: str = "", **layers: Any) -> ExchangeFeed:
        """Return a feed of one symbol; its tables are there."""
        body = {
            "apiVersion": "k2.marketdata.io/v1alpha1", "kind": "ExchangeFeed", "metadata": {"name": name or exchange},
            "spec": {"exchange": exchange, "symbols": [NATIVE[exchange]], "layers": layers},
        }  # fmt: skip
        empty_tables.ensure(self.spark, self.platform, exchange_tables(exchange))
        return ExchangeFeed.from_body(body)

    def record(self, trade: Trade) -> Record:
        """Return the Kafka record of a trade, as the ingest writes it."""
        value = avro.TradeEncoder(self.schema_id).encode(trade)
        return Record(value, trade.symbol, from_micros(trade.ingestion_timestamp))

    def arrive(
        self,
        feed: ExchangeFeed,
        entries: Iterable[Trade | Record],
        partition: int = 0,
        channel: Channel = TRADES,
    ) -> None:
        """Commit one Bronze batch."""
        topic = feed.topic(channel)
        records = [self.record(entry) if isinstance(entry, Trade) else entry for entry in entries]
        first = self.offsets.get((topic, partition), 0)
        self.offsets[topic, partition] = first + len(records)
        table = channel.bronze(feed.spec.exchange)
        rows = [
            {
                "value": entry.value, "key": entry.key and entry.key.encode(), "topic": topic,
                "partition": partition, "offset": first + index, "kafka_timestamp": entry.at,
                "bronze_timestamp": self.stored_at or entry.at,
            }
            for index, entry in enumerate(records)
        ]  # fmt: skip
        summary = {
            EXCHANGE: feed.exchange_spec.label,
            STARTED: "0",
            ROWS_IN: str(len(rows)),
            OFFSETS: json.dumps({topic: {str(partition): [first, first + len(rows) - 1]}}),
        }
        frame = local_frame(self.spark, rows, ", ".join(f"`{c.name}` {c.type}" for c in table.columns))
        Appender(self.spark, table, f"{topic}-bronze-query").append(frame, self.epoch, summary)
        self.epoch += 1

    def restart(self, feed: ExchangeFeed) -> None:
        """Reset the offsets, as if the feed's topic was deleted and recreated."""
        self.offsets = {
            topic_partition: after
            for topic_partition, after in self.offsets.items()
            if topic_partition[0] != feed.topic(TRADES)
        }

    def run(self, feed: ExchangeFeed, *layers: str, channel: Channel = TRADES) -> None:
        """Run each query as a new process would: process all available data, then stop."""
        for layer in layers:
            with self.stream(feed, layer, channel) as stream:
                stream.drain()
                assert stream.query is not None
                stream.query.awaitTermination(60)

    @contextmanager
    def stream(self, feed: ExchangeFeed, layer: str, channel: Channel | None = TRADES) -> Iterator[Stream]:
        """Yield a query as in a new process; afterwards stop it and release the checkpoint."""
        channel = None if layer == GAPS else channel
        stream = Stream(self.spark, feed, self.platform, channel, layer, initial_state(feed, channel, layer))
        try:
            yield stream
        finally:
            if stream.query is not None:
                stream.query.stop()
            if stream._lock is not None:
                stream._lock.close()

    def checkpoint(self, feed: ExchangeFeed, layer: str) -> Path:
        """Return the folder of a query's checkpoint."""
        query = query_folder(None if layer == GAPS else TRADES, layer)
        return Path(path(self.platform.checkpoints, feed.name, query))

    def table(self, table: Table) -> DataFrame:
        """Return the current rows of a table."""
        return self.spark.table(table.identifier)

    def bronze(self, exchange: str = "binance") -> DataFrame:
        """Return the Bronze rows of an exchange."""
        return self.table(TRADES.bronze(exchange))

    def silver(self, exchange: str = "binance") -> DataFrame:
        """Return the Silver rows of an exchange."""
        return self.table(TRADES.silver(exchange))

    @property
    def dead(self) -> DataFrame:
        """The dead letters."""
        return self.table(tables.DEAD_LETTERS_TABLE)

    @property
    def gold(self) -> DataFrame:
        """Gold."""
        return self.table(tables.GOLD_TABLE)

    def snapshots(self, table: Table) -> list[Snapshot]:
        """Return the snapshots of a table, newest first."""
        return list(SnapshotHistory(self.spark, table).snapshots())

    def sql(self, statement: str, table: Table) -> None:
        """Run a statement in which `{}` stands for the table."""
        self.spark.sql(statement.format(table.identifier))


def drop_tables(spark: SparkSession) -> None:
    """Drop all tables of the catalog, whatever its type."""
    namespace = f"{tables.CATALOG}.{tables.NAMESPACE}"
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {namespace}")
    for row in spark.sql(f"SHOW TABLES IN {namespace}").collect():
        spark.sql(f"DROP TABLE {namespace}.{row['tableName']}")


def numbers(rows: DataFrame) -> list[int]:
    """Return the trade ids of rows as sorted numbers, duplicates included."""
    return sorted(int(row[0]) for row in rows.select("trade_id").collect())


def consecutive(first: int, last: int, **changes: Any) -> Sequence[Trade]:
    """Return trades `first` to `last`, a second apart."""
    return [trade(number, **changes) for number in range(first, last + 1)]
