"""Trades in memory: bounded, and filtered exactly as a scan of each trade would."""

from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from k2.query.kafka import trade_buffer
from k2.query.kafka.records import ValidatedRecord
from k2.query.kafka.trade_buffer import TradeBuffer
from k2.query.kafka.validation import ValidTrade
from k2.query.sql.trade_sql import TradeFilter
from k2.schemas.values import from_micros, to_micros

AT = 1_770_000_000_000_000
PARTITIONS = [("one", 0), ("one", 1), ("two", 0)]


def row(number: int) -> ValidTrade:
    symbol = ("BTCUSDT", "ETHUSDT")[number % 2]
    names = (f"id{number}", str(number), symbol, "BINANCE", symbol[:3], "USDT")
    return ValidTrade(*names, AT + number * 1_000_000, number, 10**18 - 1, "BUY", AT, "{}")


def records(count: int) -> list[ValidatedRecord]:
    """Return records of three partitions in turn; every fifth is invalid."""
    return [
        ValidatedRecord(PARTITIONS[number % 3], number // 3, 0, row(number) if number % 5 else "UNDECODABLE")
        for number in range(count)
    ]


@example(2_500, [0, 0, 0], None, 501)
@example(2_500, [0, 100, 800], "BTCUSDT", 0)
@given(
    st.integers(0, 2_500),
    st.lists(st.integers(0, 800), min_size=3, max_size=3),
    st.sampled_from([None, "BTCUSDT"]),
    st.integers(0, 2_500),
)
def test_a_view_returns_exactly_the_matching_trades_that_were_added(
    count: int, start_offsets: list[int], symbol: str | None, first: int
):
    buffer, every = TradeBuffer(10_000), records(count)
    buffer.start_partitions(dict.fromkeys(PARTITIONS, 0))
    for start in range(0, count, 333):
        buffer.add(every[start : start + 333])
    starts = dict(zip(PARTITIONS, start_offsets, strict=True))
    trade_filter = TradeFilter(symbol, None, from_micros(AT) + timedelta(seconds=first))
    expected = [
        record.value.message_id
        for record in every
        if isinstance(record.value, ValidTrade)
        and record.offset >= starts[record.topic_partition]
        and symbol in {None, record.value.symbol}
        and record.value.timestamp >= to_micros(trade_filter.start)
    ]
    assert buffer.view().rows(starts, trade_filter).column("message_id").to_pylist() == expected


def test_the_oldest_trades_are_evicted_and_the_floor_advances():
    buffer = TradeBuffer(2_000)
    buffer.start_partitions({("one", 0): 5})
    buffer.add(ValidatedRecord(("one", 0), 5 + number, 0, row(number)) for number in range(7_500))
    first = buffer.floors["one", 0]
    assert 5_000 <= first - 5 <= 6_500
    rows = buffer.view().rows({("one", 0): 0}, TradeFilter())
    assert rows.column("trade_id").to_pylist() == [str(number) for number in range(first - 5, 7_500)]


def test_a_view_does_not_change():
    buffer = TradeBuffer(2_000)
    buffer.start_partitions(dict.fromkeys(PARTITIONS, 0))
    buffer.add(records(30))
    before = buffer.view()
    buffer.add(records(5_000))
    assert before.rows(dict.fromkeys(PARTITIONS, 0), TradeFilter()).num_rows == 24


def test_deduplication_keeps_the_first_of_each_trade():
    rows = trade_buffer.table([row(1), row(2), row(1)._replace(price=9), row(3), row(2)])
    assert trade_buffer.deduplicate(rows).to_pylist() == trade_buffer.table([row(1), row(2), row(3)]).to_pylist()
    assert trade_buffer.deduplicate(trade_buffer.table([])).num_rows == 0


def test_numbers_and_times_are_exact():
    (stored,) = trade_buffer.table([row(7)]).to_pylist()
    assert (str(stored["price"]), str(stored["quantity"])) == ("7E-8", "9999999999.99999999")
    assert stored["timestamp"] == from_micros(AT + 7_000_000)
