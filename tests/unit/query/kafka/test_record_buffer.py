"""Records in memory: bounded, and filtered exactly as a scan of each record would."""

from datetime import timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from k2.query.kafka import record_buffer
from k2.query.kafka.record_buffer import RecordBuffer
from k2.query.kafka.records import ValidatedRecord
from k2.query.kafka.row_types import row_type
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.values import from_micros, to_micros

AT = 1_770_000_000_000_000
PARTITIONS = [("one", 0), ("one", 1), ("two", 0)]


def row(number: int) -> Any:
    symbol = ("BTCUSDT", "ETHUSDT")[number % 2]
    names = (f"id{number}", str(number), symbol, "BINANCE", symbol[:3], "USDT")
    return row_type(TRADES)(*names, AT + number * 1_000_000, number, 10**38 - 1, "BUY", AT, "{}")


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
def test_a_view_returns_exactly_the_matching_records_that_were_added(
    count: int, start_offsets: list[int], symbol: str | None, first: int
):
    buffer, every = RecordBuffer(TRADES, 10_000), records(count)
    buffer.start_partitions(dict.fromkeys(PARTITIONS, 0))
    for start in range(0, count, 333):
        buffer.add(every[start : start + 333])
    starts = dict(zip(PARTITIONS, start_offsets, strict=True))
    record_filter = RecordFilter(symbol, None, from_micros(AT) + timedelta(seconds=first))
    expected = [
        record.value.message_id
        for record in every
        if isinstance(record.value, tuple)
        and record.offset >= starts[record.topic_partition]
        and symbol in {None, record.value.symbol}
        and record.value.timestamp >= to_micros(record_filter.start)
    ]
    assert buffer.view().rows(starts, record_filter).column("message_id").to_pylist() == expected


def test_the_oldest_records_are_evicted_and_the_floor_advances():
    buffer = RecordBuffer(TRADES, 2_000)
    buffer.start_partitions({("one", 0): 5})
    buffer.add(ValidatedRecord(("one", 0), 5 + number, 0, row(number)) for number in range(7_500))
    first = buffer.floors["one", 0]
    assert 5_000 <= first - 5 <= 6_500
    rows = buffer.view().rows({("one", 0): 0}, RecordFilter())
    assert rows.column("trade_id").to_pylist() == [str(number) for number in range(first - 5, 7_500)]


def test_a_view_does_not_change():
    buffer = RecordBuffer(TRADES, 2_000)
    buffer.start_partitions(dict.fromkeys(PARTITIONS, 0))
    buffer.add(records(30))
    before = buffer.view()
    buffer.add(records(5_000))
    assert before.rows(dict.fromkeys(PARTITIONS, 0), RecordFilter()).num_rows == 24


def test_deduplication_keeps_the_first_of_each_identity():
    rows = record_buffer.table(TRADES, [row(1), row(2), row(1)._replace(price=9), row(3), row(2)])
    assert (
        record_buffer.deduplicate(TRADES, rows).to_pylist()
        == record_buffer.table(TRADES, [row(1), row(2), row(3)]).to_pylist()
    )
    assert record_buffer.deduplicate(TRADES, record_buffer.table(TRADES, [])).num_rows == 0


def test_numbers_and_times_are_exact():
    (stored,) = record_buffer.table(TRADES, [row(7)]).to_pylist()
    assert (str(stored["price"]), str(stored["quantity"])) == ("7E-12", f"{10**26 - 1}.{10**12 - 1}")
    assert stored["timestamp"] == from_micros(AT + 7_000_000)


def test_copies_with_other_content_are_counted():
    first, at = row(1), row(1).timestamp
    other = [{"price": 9}, {"quantity": 9}, {"side": "SELL"}, {"timestamp": at + 1_000}]
    same = [{"vendor_data": "{}"}, {"ingestion_timestamp": 1}, {"timestamp": at + 999}]
    assert at % 1_000 == 0
    assert first.side == "BUY"
    rows = [first, *(first._replace(**changes) for changes in (*other, *same)), row(2), row(2)]
    assert record_buffer.count_conflicts(TRADES, record_buffer.table(TRADES, rows)) == len(other)
    assert record_buffer.count_conflicts(TRADES, record_buffer.table(TRADES, [])) == 0
