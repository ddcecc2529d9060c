"""Read the trades of a replay in order of time, one time range after the other, so that any length fits in memory.

Gold returns each trade once, in order of exchange time. Bronze returns records in order of arrival, duplicates
included, without those that Silver rejects.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaCache
from k2.query import arrow_schema, times
from k2.query.errors import BadQuery, Unavailable
from k2.query.kafka.validation import Validator, check_formats
from k2.query.replay import Layer, time_ranges
from k2.query.sql.record_sql import RecordFilter
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Source, Trade, VendorData, listing_of
from k2.schemas.tables import GOLD
from k2.schemas.values import PRECISION, SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyarrow import Array, RecordBatch

    from k2.common.registry_connection import RegistryConnection
    from k2.query.engine import Engine
    from k2.query.kafka.row_types import Row
    from k2.query.times import AsOf, TimeRange

_GOLD_STEP: Final = timedelta(hours=1)
_BRONZE_STEP: Final = timedelta(minutes=5)
_SOURCE: Final = "source"


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """What to replay. Times are [start, end): the exchange's in Gold, Kafka's in Bronze."""

    start: datetime
    end: datetime | None = None
    symbols: tuple[str, ...] = ()  # empty: all
    exchange: str | None = None
    layer: Layer = Layer.GOLD
    as_of: AsOf | None = None

    def trade_filter(self) -> RecordFilter:
        """Return the range as a filter. Raises `BadQuery`."""
        checked = [RecordFilter.of(symbol, self.exchange, self.start, self.end) for symbol in self.symbols or (None,)]
        return checked[0] if len(checked) == 1 else replace(checked[0], symbol=None)

    def symbol_names(self) -> frozenset[str]:
        """Return the symbols in the tables' spelling."""
        return frozenset(
            symbol for name in self.symbols if (symbol := RecordFilter.of(name, self.exchange, None, None).symbol)
        )


def trades(engine: Engine, registry: RegistryConnection, replay_range: ReplayRange) -> Iterator[Trade]:
    """Yield the trades, at least one. Only Bronze needs the schema `registry`.

    Raises `BadQuery` for a range that is invalid or empty, before the first trade, and `Unavailable`.
    """
    trade_filter, symbol_names = replay_range.trade_filter(), replay_range.symbol_names()
    stored = (
        _from_gold(engine, replay_range, trade_filter)
        if replay_range.layer is Layer.GOLD
        else _from_bronze(engine, registry, replay_range, trade_filter)
    )
    selected = (trade for trade in stored if not symbol_names or trade.symbol in symbol_names)
    first = next(selected, None)
    if first is None:
        subject = " ".join(filter(None, (replay_range.exchange, *replay_range.symbols))) or "any symbol"
        until = f"to {times.to_rfc3339(trade_filter.end)}" if trade_filter.end else "until now"
        raise BadQuery(
            f"there is nothing to replay: {replay_range.layer} has no trade of {subject} from "
            f"{times.to_rfc3339(replay_range.start)} {until}; give another range"
        )
    return chain((first,), selected)


def pair(trade: Trade) -> Pair:
    """Return the trade's symbol in its exchange's spelling."""
    raw_symbol = f"{trade.base_asset}{EXCHANGES[trade.exchange.lower()].separator}{trade.quote_currency}"
    return Pair(raw_symbol, trade.symbol, trade.base_asset, trade.quote_currency)


def mark_replayed(trade: Trade) -> Trade:
    """Return the trade with `replay` as its source."""
    vendor_data = tuple(pair for pair in trade.vendor_data if pair[0] != _SOURCE)
    return Trade(
        trade.trade_id, trade.symbol, trade.exchange, trade.base_asset, trade.quote_currency, trade.timestamp,
        trade.price, trade.quantity, trade.side, trade.ingestion_timestamp,
        (*vendor_data, (_SOURCE, Source.REPLAY.value)), trade.listing,
    )  # fmt: skip


def _from_gold(engine: Engine, replay_range: ReplayRange, trade_filter: RecordFilter) -> Iterator[Trade]:
    snapshot = engine.snapshot_id(replay_range.as_of)
    if snapshot is None:
        return
    covered = time_ranges.covered_ranges(engine, GOLD, "timestamp", trade_filter.expression("timestamp"), snapshot)
    if len(replay_range.symbols) > 1 or not covered:
        for name in replay_range.symbol_names():  # raises for a symbol that was never stored
            engine.trades_reader(symbol=name, start=replay_range.start, end=replay_range.start, as_of=snapshot)
    for time_range in time_ranges.split_ranges(covered, trade_filter.start, trade_filter.end, _GOLD_STEP):
        reader = engine.trades_reader(
            symbol=trade_filter.symbol,
            exchange=replay_range.exchange,
            start=time_range.start,
            end=time_range.end,
            as_of=snapshot,
        )
        for batch in reader:
            yield from _trades(batch)


def _trades(batch: RecordBatch) -> Iterator[Trade]:
    names = [name for name in TRADES.column_names if name != "message_id"]
    columns = [_values(batch.column(name)) for name in names]
    for row in zip(*columns, strict=True):
        yield _trade(**dict(zip(names, row, strict=True)))


def _values(column: Array) -> list[Any]:
    """Return times as microseconds and decimals in units of 10**-12, as `Trade` has them."""
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        return arrow_schema.units(column.cast(pa.decimal128(PRECISION, SCALE)))
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()  # type: ignore[no-any-return]


def _trade(*, side: str, vendor_data: str | None, **fields: Any) -> Trade:
    vendor = _vendor(vendor_data or "{}")
    return Trade(**fields, side=Side(side), vendor_data=vendor, listing=_listing(vendor))


def _listing(vendor_data: VendorData) -> int:
    try:
        return listing_of(dict(vendor_data))
    except ValueError as error:
        raise BadQuery(f"a stored trade cannot be replayed: {error}") from error


@lru_cache(maxsize=4096)
def _vendor(text: str) -> VendorData:
    return tuple(json.loads(text).items())


def _from_bronze(
    engine: Engine, registry: RegistryConnection, replay_range: ReplayRange, trade_filter: RecordFilter
) -> Iterator[Trade]:
    from pyiceberg.expressions import AlwaysTrue, And, GreaterThanOrEqual, LessThan

    if trade_filter.exchange is None:
        raise BadQuery("Bronze has one table per exchange; say which exchange")
    name = TRADES.bronze(trade_filter.exchange.lower()).name
    snapshot = engine.snapshot_id(replay_range.as_of, name)
    if snapshot is None:
        return
    validator = _validators(Registry(registry), trade_filter.exchange)

    def within(time_range: TimeRange) -> Any:
        start = GreaterThanOrEqual(term="kafka_timestamp", value=time_range.start.isoformat())
        return And(start, LessThan(term="kafka_timestamp", value=time_range.end.isoformat()))

    covered = time_ranges.covered_ranges(engine, name, "kafka_timestamp", AlwaysTrue(), snapshot)
    for time_range in time_ranges.split_ranges(covered, trade_filter.start, trade_filter.end, _BRONZE_STEP):
        parameters = {"start": times.to_rfc3339(time_range.start), "end": times.to_rfc3339(time_range.end)}
        for row in engine.execute(
            _RECORDS.format(table=name), {name: within(time_range)}, as_of=snapshot, **parameters
        ).to_pylist():
            verdict = validator(row["topic"]).validate(row["value"], row["key"], row["at"])
            if isinstance(verdict, tuple):
                yield _to_trade(verdict)


_RECORDS: Final = (
    'SELECT value, "key", topic, epoch_us(kafka_timestamp) AS at FROM {table} '
    "WHERE kafka_timestamp >= $start::TIMESTAMPTZ AND kafka_timestamp < $end::TIMESTAMPTZ "
    'ORDER BY kafka_timestamp, topic, "partition", "offset"'
)


def _validators(registry: Registry, label: str) -> Callable[[str], Validator]:
    @lru_cache(maxsize=64)
    def validator(topic: str) -> Validator:
        try:
            schemas = SchemaCache(registry, topics.subject(topic)).schemas()
        except RegistryUnavailable as error:
            raise Unavailable(str(error)) from error
        check_formats(topic, schemas)
        return Validator(TRADES, schemas, label)

    return validator


def _to_trade(row: Row) -> Trade:
    fields = dict(zip(TRADES.column_names, row, strict=True))
    del fields["message_id"]
    return _trade(**fields)
