"""Silver and the queries' Kafka tail validate 10,000 generated records alike, at least 300 for each error category."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from k2.jobs.layers import silver
from k2.query.kafka.validation import Validator
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro, wire
from k2.schemas.records.trade import Side, Trade
from k2.schemas.validation import GENESIS_MICROS, MAX_AHEAD_MICROS, ErrorCategory
from k2.schemas.values import MAX_SCALED, scaled_decimal, to_micros
from tests.spark.builders import HOUR

pytestmark = pytest.mark.spark

RECORDS = 10_000
SCHEMA_ID = 7
NOW = to_micros(HOUR)
PAIRS = (("BTC", "USDT"), ("ETH", "USDT"), ("SOL", "EUR"))


@dataclass
class Generated:
    """One Kafka record, before it is encoded."""

    trade: Trade
    key: bytes | None
    at: int  # Kafka's timestamp in UTC microseconds
    value: bytes | None = None

    def change(self, **fields: object) -> None:
        self.trade = msgspec.structs.replace(self.trade, **fields)

    def encoded(self) -> bytes | None:
        return avro.TradeEncoder(SCHEMA_ID).encode(self.trade)  # a new one: it caches assets by symbol


def _header(chance: random.Random, record: Generated) -> bytes | None:
    whole = record.encoded()
    return chance.choice([None, b"", whole[:1], whole[:4], b"\x01" + whole[1:], b"{" + whole, b"\xff" * 9])


def _schema(chance: random.Random, record: Generated) -> bytes:
    number = chance.choice([0, SCHEMA_ID - 1, SCHEMA_ID + 1, 2**31 - 1, 2**31, 2**32 - 1])
    return wire.header(number) + record.encoded()[wire.HEADER_SIZE :]


def _undecodable(chance: random.Random, record: Generated) -> bytes:
    whole = record.encoded()
    return whole[: chance.randrange(wire.HEADER_SIZE, len(whole))]


def _missing(chance: random.Random, record: Generated) -> None:
    record.change(**{chance.choice(["trade_id", "symbol", "base_asset", "quote_currency"]): ""})


def _exchange(chance: random.Random, record: Generated) -> None:
    record.change(exchange=chance.choice(["KRAKEN", "UNKNOWN", "OKX"]))


def _symbol(chance: random.Random, record: Generated) -> None:
    match chance.randrange(4):
        case 0:
            record.key = chance.choice([b"", b"BTC", b"btcusdt", b"\xff\xfe", record.key + b"\x00"])
        case 1:
            record.change(symbol="XRPUSDT")
        case 2:
            record.change(base_asset="XRP")
        case _:
            record.change(quote_currency=record.trade.quote_currency + "\u00e9")


def _amount(field: str, chance: random.Random, record: Generated) -> None:
    record.change(**{field: chance.choice([0, -1, -MAX_SCALED])})


def _future(chance: random.Random, record: Generated) -> None:
    record.change(timestamp=record.at + MAX_AHEAD_MICROS + chance.choice([1, 2, 1_000_000, 10**15]))


def _implausible(chance: random.Random, record: Generated) -> None:
    record.change(timestamp=chance.choice([GENESIS_MICROS - 1, 0, -1, GENESIS_MICROS - 10**12]))


BREAK: dict[ErrorCategory, Callable[[random.Random, Generated], bytes | None]] = {
    ErrorCategory.MALFORMED_HEADER: _header,
    ErrorCategory.UNKNOWN_SCHEMA: _schema,
    ErrorCategory.UNDECODABLE: _undecodable,
    ErrorCategory.MISSING_FIELD: _missing,
    ErrorCategory.UNKNOWN_EXCHANGE: _exchange,
    ErrorCategory.SYMBOL_MISMATCH: _symbol,
    ErrorCategory.NON_POSITIVE_PRICE: partial(_amount, "price"),
    ErrorCategory.NON_POSITIVE_QUANTITY: partial(_amount, "quantity"),
    ErrorCategory.FUTURE_TIMESTAMP: _future,
    ErrorCategory.IMPLAUSIBLE_TIMESTAMP: _implausible,
}
FIELD_RULES = list(BREAK)[3:]


def _valid(chance: random.Random, number: int) -> Generated:
    base, quote = chance.choice(PAIRS)
    at = NOW + chance.randrange(3_600_000_000)
    times = [at, at - chance.randrange(10**9), at + MAX_AHEAD_MICROS, at + MAX_AHEAD_MICROS - 1, GENESIS_MICROS]
    trade = Trade(
        str(number), base + quote, "BINANCE", base, quote, chance.choice(times),
        chance.choice([1, MAX_SCALED, chance.randrange(1, 10**12)]), chance.choice([1, MAX_SCALED, 10**8]),
        chance.choice(list(Side)), at, chance.choice([(), (("source", "live"),)]),
    )  # fmt: skip
    return Generated(trade, chance.choice([None, (base + quote).encode()]), at)


def generate() -> Iterator[tuple[Generated, set[ErrorCategory]]]:
    """Yield records and the rules that each breaks: none, one, or two field rules at once."""
    chance = random.Random(20_260_302)
    for number in range(RECORDS):
        record, broken = _valid(chance, number), set()
        if number % 4:
            broken.add(list(BREAK)[number % len(BREAK)])
            if broken <= set(FIELD_RULES) and number % 3 == 0:
                broken.add(chance.choice(FIELD_RULES))
        if ErrorCategory.SYMBOL_MISMATCH in broken:
            record.key = record.trade.symbol.encode()
        made = [BREAK[category](chance, record) for category in BREAK if category in broken]
        whole = broken.isdisjoint(list(BREAK)[:3])
        record.value = record.encoded() if whole else made[0]
        yield record, broken


def test_silver_and_the_kafka_tail_agree_on_every_record(spark: SparkSession, tmp_path: Path):
    generated = list(generate())
    records = [record for record, _ in generated]
    counts = Counter(category for _, broken in generated for category in broken)
    assert len(records) == RECORDS
    assert min(counts[category] for category in ErrorCategory) >= 300

    validator = Validator(TRADES, {SCHEMA_ID: avro.text()}, "BINANCE")
    results = [validator.validate(record.value, record.key, record.at) for record in records]
    categories = ["" if isinstance(result, tuple) else str(result) for result in results]
    for (_, broken), category in zip(generated, categories, strict=True):
        assert bool(broken) == bool(category)
        assert not category or category in broken or len(broken) == 2
    assert set(categories) == {"", *ErrorCategory}

    time = pa.timestamp("us", "UTC")
    columns = {
        "value": pa.array([record.value for record in records], pa.binary()),
        "key": pa.array([record.key for record in records], pa.binary()),
        "topic": pa.array(["t"] * RECORDS),
        "partition": pa.array([0] * RECORDS, pa.int32()),
        "offset": pa.array(range(RECORDS), pa.int64()),
        "kafka_timestamp": pa.array([record.at for record in records], pa.int64()).cast(time),
        "bronze_timestamp": pa.array([HOUR + timedelta(hours=1)] * RECORDS, time),
    }
    pq.write_table(pa.table(columns), tmp_path / "bronze.parquet")
    rows = silver.validated(spark.read.parquet(str(tmp_path)), TRADES, {SCHEMA_ID: avro.text()}, "BINANCE")
    by_offset = {row["offset"]: row for row in rows.drop("vendor_data", "value").collect()}
    assert [by_offset[offset]["error_category"] or "" for offset in range(RECORDS)] == categories
    for offset, result in enumerate(results):
        row = by_offset[offset]
        if isinstance(result, tuple):
            assert row["error_message"] is None
            assert (row["symbol"], scaled_decimal(row["price"]), row["side"]) == (
                result.symbol,
                result.price,
                result.side,
            )
        else:
            assert row["error_message"]
