"""Functions that statements read from: their arguments, the files that a call opens, and errors, by the engine."""

from datetime import timedelta
from decimal import Decimal

import duckdb
import pytest

from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.iceberg.scan_planner import ScanPlanner
from k2.query.sql.cage.tree import Call, Constant
from k2.query.sql.derived import functions
from k2.schemas.tables import GOLD, GOLD_QUOTES_TABLE
from tests.unit.query.conftest import NOON, Append, trade
from tests.unit.query.quotes import quote, store
from tests.unit.query.test_instruments import HISTORY, record

_HOUR = 3600


@pytest.mark.parametrize(
    ("text", "cast"),
    [
        ("2026-01-31", ""), ("2026-01-31 12:30", "timestamptz"), ("2026-01-31T12:30:05.25Z", ""),
        ("2026-01-31 12:30:00+02:00", "TIMESTAMP WITH TIME ZONE"), ("2026-01-31 12:30:00-05", ""),
        ("2026-01-31", "date"), ("2026-01-31 12:30", "timestamp"),
    ],
)  # fmt: skip
def test_a_constant_is_the_time_that_duckdb_reads_in_it(text: str, cast: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute(f"SELECT (?::{cast or 'VARCHAR'})::TIMESTAMPTZ", [text]).fetchone()
    assert row == (functions.moment(Constant(text, cast)),)


@pytest.mark.parametrize(
    ("text", "cast"),
    [
        ("yesterday", ""),
        ("2026-02-30", ""),
        ("2026-01-31 12:30", "date"),
        ("2026-01-31 12:30+02", "timestamp"),
        ("1", "int"),
    ],
)
def test_what_only_duckdb_can_read_selects_no_files(text: str, cast: str) -> None:
    assert functions.moment(Constant(text, cast)) is None


def test_a_call_opens_the_files_of_its_hours_alone(layout: Layout, append: Append) -> None:
    append([trade(hour, hour * _HOUR) for hour in range(8)])
    store(layout, [quote(hour, hour * _HOUR) for hour in range(8)])
    planner = ScanPlanner(layout.platform())

    def hours(name: str, *positional: Constant | None, **named: Constant) -> list[list[int]]:
        call = Call(name, positional, named, None)
        conditions = functions.find(call, planner.names()).conditions(call)
        plans = [planner.plan(table, conditions[table]) for table in (GOLD, GOLD_QUOTES_TABLE.name)]
        return [sorted(hour - int(NOON.timestamp()) // _HOUR for hour in plan.hours) for plan in plans]

    start, end = (Constant((NOON + timedelta(hours=hour)).isoformat()) for hour in (3, 4))
    symbol, everything = Constant("BTCUSDT"), list(range(8))
    assert hours("trades_with_quotes", symbol, start, end) == [[3], [2, 3]]
    assert hours("markouts", symbol, start_time=start, end_time=end) == [[3], [2, 3, 4, 5, 6]]
    assert hours("markouts", symbol, None, end) == [everything[:4], everything[:7]]
    assert hours("markouts", Constant("ETHUSDT")) == [[], []]
    assert hours("markouts") == [everything, everything]
    planner.close()


def test_statements_read_from_them(engine: Engine, append: Append, layout: Layout) -> None:
    append([trade(1, 1), trade(2, _HOUR), trade(3, 2, symbol="ETHUSDT")])
    store(layout, [quote(1, 0), quote(2, 61), quote(3, 62)])
    record(layout, *HISTORY)
    call = "trades_with_quotes('BTCUSDT', '2026-01-31T12:00:00Z', '2026-01-31T13:00:00Z')"
    assert engine.sql(f"SELECT trade_id, mid_price FROM {call}").to_pylist() == [
        {"trade_id": "1", "mid_price": Decimal("100.06")}
    ]
    # The same statement reads a table by itself: all of its rows, and a name of its own hides no table from a function.
    both = f"WITH gold_crypto_quotes AS (SELECT 1) SELECT (SELECT count(*) FROM gold_crypto_trades) AS n, * FROM {call}"
    assert [(row["n"], row["bid_price"]) for row in engine.sql(both).to_pylist()] == [(3, Decimal("100.01"))]
    hours = " UNION ALL ".join(
        f"FROM trades_with_quotes('BTCUSDT', '2026-01-31 {hour}:00', '2026-01-31 {hour}:30')" for hour in (12, 13)
    )
    assert sorted(engine.sql(hours)["trade_id"].to_pylist()) == ["1", "2"]  # of two calls, the files of both
    moves = "SELECT markout_1s, markout_60s FROM markouts(start_time := TIMESTAMPTZ '2026-01-31') WHERE trade_id = '1'"
    (row,) = engine.sql(moves).to_pylist()
    assert row == {"markout_1s": Decimal("0.06"), "markout_60s": Decimal("0.07")}
    steps = "SELECT tick_size FROM instruments_at({}) WHERE exchange = 'BINANCE' AND symbol = 'BTCUSDT'"
    for at, expected in (("'2026-01-31T12:00:09Z'", "0.01"), ("'2026-01-31T12:00:10Z'", "0.1"), ("", "0.1")):
        assert engine.sql(steps.format(at)).to_pylist() == [{"tick_size": Decimal(expected)}]
    columns = engine.sql("DESCRIBE SELECT * FROM markouts()")["column_name"].to_pylist()
    assert columns[-6:] == ["mid_1s", "mid_10s", "mid_60s", "markout_1s", "markout_10s", "markout_60s"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("trades_with_quotes('BTC/USDT')", "write the symbol as the tables do: 'BTCUSDT'"),
        ("trades_with_quotes('BTCUSDT', exchange := 'mtgox')", '"mtgox" is not an exchange'),
        ("markouts('BTCUSDT', '2026-02-01', '2026-01-31')", "is after end"),
        ("markouts('BTCUSDT', 'yesterday')", '"yesterday" is not a time'),
        ("instruments_at('2026')", '"2026" is not a time'),
        ("instruments_at('2026-01-31', NULL)", "instruments_at() has 1 parameter; use at_time"),
        ("markouts(sybol := 'BTCUSDT')", 'markouts() has no parameter "sybol"; use symbol, start_time'),
        ("instruments_at('2026-01-31')", "reads gold_instruments, which does not exist yet"),
    ],
)
def test_a_wrong_call_says_what_to_change(engine: Engine, layout: Layout, call: str, message: str) -> None:
    store(layout, [quote(1)])
    if "does not exist" not in message:
        record(layout, *HISTORY)
    with pytest.raises(BadQuery) as error:
        engine.sql(f"SELECT * FROM {call}")
    assert message in str(error.value)
    assert str(error.value).startswith("line 1, column 15: ")
