"""Trades with the quote before each, and how the mid price moved after them: SQL for DuckDB.

Quotes of an exchange and symbol are in the order of their time, then of `sequence`, or of `ordinal` where the exchange
sends none, then of a hash of the connection. This order is one number, a HUGEINT, because ASOF JOIN compares one value:
the microseconds since 1970 above `_TIE_BITS` bits.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from k2.query.sql import exact
from k2.schemas.channels import QUOTES, TRADES
from k2.schemas.tables import GOLD, GOLD_QUOTES_TABLE

PARAMETERS: Final = ("symbol", "start_time", "end_time", "exchange")
HORIZONS: Final = (1, 10, 60)  # seconds
MAX_QUOTE_AGE: Final = timedelta(hours=1)
_SECOND: Final = 1_000_000  # microseconds
_HOUR: Final = 3600 * _SECOND
_LAST_HORIZON: Final = timedelta(seconds=HORIZONS[-1])
# A later quote must prove that recording went on: one in the hour of the horizon or in the next hour.
AFTER_LAST_TRADE: Final = _LAST_HORIZON + timedelta(hours=2)
_TIE_BITS: Final = 72  # 64 for sequence or ordinal, 8 for the connection
_TIME: Final = f"coalesce({', '.join(f'quote.{name}' for name in QUOTES.time_columns)})"
_KEY: Final = (
    f"(epoch_us({_TIME})::HUGEINT << {_TIE_BITS}) "
    "+ (greatest(coalesce(quote.sequence, quote.ordinal), 0)::HUGEINT << 8) + (hash(quote.connection) & 255)::HUGEINT"
)
_PAYLOAD: Final = ("bid_price", "bid_quantity", "ask_price", "ask_quantity", "price_exponent", "quantity_exponent")
_SAME: Final = "quote.exchange = trade.exchange AND quote.symbol = trade.symbol"
_OF_TRADE: Final = tuple(TRADES.column_names)
_OF_QUOTE: Final = (
    "quote_time", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "mid_price", "quote_verdict"
)  # fmt: skip


def trades_with_quotes() -> str:
    """Return the SELECT of each trade with the last quote whose time is before the trade's; null if it is too old."""
    return f"SELECT {_columns('result', *_OF_TRADE, *_OF_QUOTE)} FROM ({_joined()}) AS result"  # noqa: S608 - K2's own names


def markouts() -> str:
    """Return the SELECT of the same with the mid price after each horizon, and its move in the aggressor's favour."""
    selected, joins = [_columns("trade", *_OF_TRADE, *_OF_QUOTE)], []
    for seconds in HORIZONS:
        at, quote, covered = f"(trade.micros + {seconds * _SECOND})", f"quote_{seconds}", f"covered_{seconds}"
        same = _SAME.replace("quote.", f"{quote}.")
        quotes = f"({_quotes('bid_price', 'ask_price', 'price_exponent')}) AS {quote}"
        joins.append(f"ASOF LEFT JOIN {quotes} ON {same} AND (({at} + 1)::HUGEINT << {_TIE_BITS}) > {quote}.key")
        of_hour = f"{same.replace(quote, covered)} AND {covered}.hour = {at} // {_HOUR}"
        joins.append(f"LEFT JOIN covered AS {covered} ON {of_hour}")
        valid = f"{at} <= {covered}.until AND {_micros(quote)} >= {at} - {_age()}"
        mid = _mid(f"{quote}.bid_price", f"{quote}.ask_price", f"{quote}.price_exponent")
        selected.append(f"CASE WHEN {valid} THEN {mid} END AS mid_{seconds}s")
    mids = [(f"result.mid_{seconds}s", f"markout_{seconds}s") for seconds in HORIZONS]
    moves = ", ".join(
        f"TRY(CASE result.side WHEN 'BUY' THEN {mid} - result.price "
        f"WHEN 'SELL' THEN result.price - {mid} END) AS {markout}"
        for mid, markout in mids
    )
    return (
        f"WITH hours AS MATERIALIZED ({_hours()}), covered AS ({_covered()}) "  # noqa: S608 - K2's own names
        f"SELECT result.*, {moves} FROM "
        f"(SELECT {', '.join(selected)} FROM ({_joined()}) AS trade {' '.join(joins)}) AS result"
    )


def _joined() -> str:
    """Return the SELECT of trades, with their time as `micros`, and the quote before each."""
    fresh = f"{_micros('quote')} >= trade.micros - {_age()}"
    values = {
        "quote_time": f"make_timestamptz({_micros('quote')})",
        **{
            f"{side}_{kind}": exact.scaled(f"quote.{side}_{kind}", f"quote.{kind}_exponent")
            for side in ("bid", "ask")
            for kind in ("price", "quantity")
        },
        "mid_price": _mid("quote.bid_price", "quote.ask_price", "quote.price_exponent"),
        "quote_verdict": "quote.verdict",
    }
    of_quote = ", ".join(f"CASE WHEN {fresh} THEN {value} END AS {name}" for name, value in values.items())
    return (
        f"SELECT {_columns('trade', *_OF_TRADE)}, trade.micros, {of_quote} "  # noqa: S608 - K2's own names
        f"FROM (SELECT trade.*, epoch_us(trade.timestamp) AS micros FROM temp.main.{GOLD} AS trade "
        f"WHERE {_selected('trade', 'trade.timestamp')}) AS trade "
        f"ASOF LEFT JOIN ({_quotes(*_PAYLOAD, 'verdict')}) AS quote "
        f"ON {_SAME} AND (trade.micros::HUGEINT << {_TIE_BITS}) > quote.key"
    )


def _quotes(*columns: str) -> str:
    """Return the SELECT of the quotes that trades of the range can need, with their place in the order as `key`."""
    return (
        f"SELECT quote.exchange, quote.symbol, {_KEY} AS key, {_columns('quote', *columns)} "  # noqa: S608 - K2's own names
        f"FROM temp.main.{GOLD_QUOTES_TABLE.name} AS quote WHERE {_in_range()}"
    )


def _in_range() -> str:
    before, after = (_interval(each) for each in (MAX_QUOTE_AGE, AFTER_LAST_TRADE))
    first, last = f"start_time::TIMESTAMPTZ - {before}", f"end_time::TIMESTAMPTZ + {after}"
    # The day is redundant, but has statistics by which row groups are skipped.
    return (
        f"{_selected('quote')} "
        f"AND (start_time IS NULL OR ({_TIME} >= {first} AND quote.exchange_date >= ({first})::DATE)) "
        f"AND (end_time IS NULL OR ({_TIME} < {last} AND quote.exchange_date <= ({last})::DATE))"
    )


def _selected(table: str, time: str = "") -> str:
    """Return the condition of a call's symbol and exchange, and of its range if a time is given."""
    condition = " AND ".join(f"({name} IS NULL OR {table}.{name} = upper({name}))" for name in ("symbol", "exchange"))
    if not time:
        return condition
    return (
        f"{condition} AND (start_time IS NULL OR {time} >= start_time::TIMESTAMPTZ) "
        f"AND (end_time IS NULL OR {time} < end_time::TIMESTAMPTZ)"
    )


def _hours() -> str:
    """Return the SELECT of the last quote of each hour."""
    return (
        f"SELECT quote.exchange, quote.symbol, epoch_us({_TIME}) // {_HOUR} AS hour, max(epoch_us({_TIME})) AS until "  # noqa: S608 - K2's own names
        f"FROM temp.main.{GOLD_QUOTES_TABLE.name} AS quote WHERE {_in_range()} GROUP BY ALL"
    )


def _covered() -> str:
    """Return the SELECT of the time of each hour until which quotes are in force: a later one shows it."""
    return (
        "SELECT part.exchange, part.symbol, part.hour, max(part.until) AS until FROM (SELECT hours.* FROM hours "  # noqa: S608 - K2's own names
        f"UNION ALL SELECT hours.exchange, hours.symbol, hours.hour - 1, hours.hour * {_HOUR} FROM hours) AS part "
        "GROUP BY ALL"
    )


def _mid(bid: str, ask: str, exponent: str) -> str:
    """Return the SQL of the middle of two prices as decimal(38,12); null if it is finer or one side is empty."""
    whole = exact.scaled(f"(({bid} + {ask}) // 2)", exponent)
    half = exact.scaled(f"(({bid} + {ask}) * 5)", f"({exponent} - 1)")
    return f"TRY(CASE WHEN ({bid} + {ask}) % 2 = 0 THEN {whole} ELSE {half} END)"


def _micros(quote: str) -> str:
    return f"({quote}.key >> {_TIE_BITS})::BIGINT"


def _age() -> int:
    return MAX_QUOTE_AGE // timedelta(microseconds=1)


def _interval(length: timedelta) -> str:
    return f"to_microseconds({length // timedelta(microseconds=1)})"


def _columns(table: str, *names: str) -> str:
    return ", ".join(f"{table}.{name}" for name in names)
