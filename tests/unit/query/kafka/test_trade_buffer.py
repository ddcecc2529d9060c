"""Trades in memory: bounded, found by place and by what is wanted, the same as a look at each would find."""

from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from k2.query.kafka import trade_buffer
from k2.query.kafka.kafka_reader import Judged
from k2.query.kafka.trade_buffer import Held
from k2.query.kafka.validation import Row
from k2.query.sql.trade_sql import Wanted
from k2.schemas.values import micros, moment

AT = 1_770_000_000_000_000
PLACES = [("one", 0), ("one", 1), ("two", 0)]


def row(number: int) -> Row:
    symbol = ("BTCUSDT", "ETHUSDT")[number % 2]
    names = (f"id{number}", str(number), symbol, "BINANCE", symbol[:3], "USDT")
    return Row(*names, AT + number * 1_000_000, number, 10**18 - 1, "BUY", AT, "{}")


def records(count: int) -> list[Judged]:
    """Over three places in turn; of every fifth record a dead letter."""
    return [
        Judged(PLACES[number % 3], number // 3, 0, row(number) if number % 5 else "UNDECODABLE")
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
def test_what_is_found_is_what_was_put_there(count: int, begins: list[int], symbol: str | None, first: int):
    found, every = Held(10_000), records(count)
    found.begin(dict.fromkeys(PLACES, 0))
    for start in range(0, count, 333):
        found.add(every[start : start + 333])
    starts = dict(zip(PLACES, begins, strict=True))
    wanted = Wanted(symbol, None, moment(AT) + timedelta(seconds=first))
    expected = [
        one.verdict.message_id
        for one in every
        if isinstance(one.verdict, Row)
        and one.offset >= starts[one.place]
        and symbol in {None, one.verdict.symbol}
        and one.verdict.timestamp >= micros(wanted.start)
    ]
    assert found.view().rows(starts, wanted).column("message_id").to_pylist() == expected


def test_the_oldest_make_room_and_it_is_known_from_where_on_all_is_held():
    found = Held(2_000)
    found.begin({("one", 0): 5})
    found.add(Judged(("one", 0), 5 + number, 0, row(number)) for number in range(7_500))
    first = found.floors["one", 0]
    assert 5_000 <= first - 5 <= 6_500
    rows = found.view().rows({("one", 0): 0}, Wanted())
    assert rows.column("trade_id").to_pylist() == [str(number) for number in range(first - 5, 7_500)]


def test_a_view_does_not_change():
    found = Held(2_000)
    found.begin(dict.fromkeys(PLACES, 0))
    found.add(records(30))
    before = found.view()
    found.add(records(5_000))
    assert before.rows(dict.fromkeys(PLACES, 0), Wanted()).num_rows == 24


def test_of_trades_that_came_twice_the_first_stays():
    rows = trade_buffer.table([row(1), row(2), row(1)._replace(price=9), row(3), row(2)])
    assert trade_buffer.first_of_each(rows).to_pylist() == trade_buffer.table([row(1), row(2), row(3)]).to_pylist()
    assert trade_buffer.first_of_each(trade_buffer.table([])).num_rows == 0


def test_numbers_and_times_are_exact():
    (found,) = trade_buffer.table([row(7)]).to_pylist()
    assert (str(found["price"]), str(found["quantity"])) == ("7E-8", "9999999999.99999999")
    assert found["timestamp"] == moment(AT + 7_000_000)
