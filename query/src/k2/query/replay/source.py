"""The trades of a replay in the order of their time, read a stretch at a time: a replay of any length fits in memory.

Gold gives each trade once, in order of exchange time. Bronze gives what came as it came, repetitions included, and
leaves out what Silver would not take.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaBook
from k2.query import times
from k2.query.engine import Engine
from k2.query.errors import BadQuery, Unavailable
from k2.query.kafka.validation import Judge, Row
from k2.query.replay import Layer, time_ranges
from k2.query.replay.time_ranges import Stretch
from k2.query.sql.trade_sql import Wanted
from k2.query.times import AsOf
from k2.schemas import tables, topics
from k2.schemas.exchanges.spec import EXCHANGES, Pair
from k2.schemas.records.trade import Side, Source, Trade, VendorData
from k2.schemas.tables import GOLD
from k2.schemas.values import UNIT

if TYPE_CHECKING:
    from pyarrow import RecordBatch

_OF_GOLD: Final = timedelta(hours=1)
_OF_BRONZE: Final = timedelta(minutes=5)
_SOURCE: Final = "source"


@dataclass(frozen=True, slots=True)
class Range:
    """What is told again. Times are [start, end): the exchange's in Gold, Kafka's in Bronze."""

    start: datetime
    end: datetime | None = None
    symbols: tuple[str, ...] = ()  # none: all
    exchange: str | None = None
    layer: Layer = Layer.GOLD
    as_of: AsOf | None = None

    def wanted(self) -> Wanted:
        """The same as a question. Raises `BadQuery` with what to change."""
        checked = [Wanted.of(symbol, self.exchange, self.start, self.end) for symbol in self.symbols or (None,)]
        return checked[0] if len(checked) == 1 else replace(checked[0], symbol=None)

    def names(self) -> frozenset[str]:
        """The symbols as the tables spell them."""
        return frozenset(found for name in self.symbols if (found := Wanted.of(name, None, None, None).symbol))


def trades(engine: Engine, registry: str, asked: Range) -> Iterator[Trade]:
    """The trades, of which there is at least one. `registry` is the schema registry's URL; only Bronze needs it.

    Raises `BadQuery` for a range that is wrong or empty, before anything is given, and `Unavailable`.
    """
    wanted, names = asked.wanted(), asked.names()
    found = (
        _of_gold(engine, asked, wanted) if asked.layer is Layer.GOLD else _of_bronze(engine, registry, asked, wanted)
    )
    chosen = (trade for trade in found if not names or trade.symbol in names)
    first = next(chosen, None)
    if first is None:
        whose = " ".join(filter(None, (asked.exchange, *asked.symbols))) or "any symbol"
        until = f"before {times.text(wanted.end)}" if wanted.end else "until now"
        raise BadQuery(
            f"there is nothing to replay: {asked.layer} has no trade of {whose} from {times.text(asked.start)} on and "
            f"{until}; give another range"
        )
    return chain((first,), chosen)


def pair(trade: Trade) -> Pair:
    """The trade's symbol in its exchange's spelling."""
    native = f"{trade.base_asset}{EXCHANGES[trade.exchange.lower()].separator}{trade.quote_currency}"
    return Pair(native, trade.symbol, trade.base_asset, trade.quote_currency)


def marked(trade: Trade) -> Trade:
    """The trade as one that was told again: the same but for its source."""
    told = tuple(pair for pair in trade.vendor_data if pair[0] != _SOURCE)
    return Trade(
        trade.trade_id, trade.symbol, trade.exchange, trade.base_asset, trade.quote_currency, trade.timestamp,
        trade.price, trade.quantity, trade.side, trade.ingestion_timestamp, (*told, (_SOURCE, Source.REPLAY.value)),
    )  # fmt: skip


def _of_gold(engine: Engine, asked: Range, wanted: Wanted) -> Iterator[Trade]:
    snapshot = engine.snapshot_id(asked.as_of)
    if snapshot is None:
        return
    held = time_ranges.held(engine, GOLD, "timestamp", wanted.expression, snapshot)
    if len(asked.symbols) > 1 or not held:
        for name in asked.names():  # refuses one that was never stored
            engine.trades_reader(symbol=name, start=asked.start, end=asked.start, as_of=snapshot)
    for part in time_ranges.cut(held, wanted.start, wanted.end, _OF_GOLD):
        reader = engine.trades_reader(
            symbol=wanted.symbol, exchange=asked.exchange, start=part.start, end=part.end, as_of=snapshot
        )
        for batch in reader:
            yield from _trades(batch)


def _trades(batch: "RecordBatch") -> Iterator[Trade]:
    import pyarrow as pa

    columns = {name: batch.column(name) for name in batch.schema.names}
    for name in ("timestamp", "ingestion_timestamp"):
        columns[name] = columns[name].cast(pa.int64())
    names = [name for name in tables.TRADE_COLUMNS if name != "message_id"]
    for row in zip(*(columns[name].to_pylist() for name in names), strict=True):
        yield _trade(**dict(zip(names, row, strict=True)))


def _trade(*, price: Any, quantity: Any, side: str, vendor_data: str | None, **fields: Any) -> Trade:
    return Trade(
        **fields,
        price=int(price * UNIT),
        quantity=int(quantity * UNIT),
        side=Side(side),
        vendor_data=_vendor(vendor_data or "{}"),
    )


@lru_cache(maxsize=4096)
def _vendor(text: str) -> VendorData:
    return tuple(json.loads(text).items())


def _of_bronze(engine: Engine, registry: str, asked: Range, wanted: Wanted) -> Iterator[Trade]:
    from pyiceberg.expressions import AlwaysTrue, And, GreaterThanOrEqual, LessThan

    if wanted.exchange is None:
        raise BadQuery("Bronze has a table for each exchange; say which exchange")
    name = tables.bronze(wanted.exchange.lower()).name
    snapshot = engine.snapshot_id(asked.as_of, name)
    if snapshot is None:
        return
    judge = _judges(Registry(registry), wanted.exchange)

    def within(part: Stretch) -> Any:
        start = GreaterThanOrEqual(term="kafka_timestamp", value=part.start.isoformat())
        return And(start, LessThan(term="kafka_timestamp", value=part.end.isoformat()))

    held = time_ranges.held(engine, name, "kafka_timestamp", AlwaysTrue(), snapshot)
    for part in time_ranges.cut(held, wanted.start, wanted.end, _OF_BRONZE):
        span = {"start": times.text(part.start), "end": times.text(part.end)}
        for row in engine.ask(_RECORDS.format(table=name), {name: within(part)}, as_of=snapshot, **span).to_pylist():
            verdict = judge(row["topic"]).verdict(row["value"], row["key"], row["at"])
            if isinstance(verdict, Row):
                yield _judged(verdict)


_RECORDS: Final = (
    'SELECT value, "key", topic, epoch_us(kafka_timestamp) AS at FROM {table} '
    "WHERE kafka_timestamp >= $start::TIMESTAMPTZ AND kafka_timestamp < $end::TIMESTAMPTZ "
    'ORDER BY kafka_timestamp, topic, "partition", "offset"'
)


def _judges(registry: Registry, label: str) -> Callable[[str], Judge]:
    @lru_cache(maxsize=64)
    def judge(topic: str) -> Judge:
        try:
            return Judge(SchemaBook(registry, topics.subject(topic)).schemas(), label)
        except RegistryUnavailable as error:
            raise Unavailable(str(error)) from error

    return judge


def _judged(row: Row) -> Trade:
    fields = row._asdict()
    del fields["message_id"]
    return Trade(**fields | {"side": Side(row.side), "vendor_data": _vendor(row.vendor_data)})
