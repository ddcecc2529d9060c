"""Give intervals without trades a row: SQL over bars and over every interval of a range."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import BadQuery
from k2.schemas.values import SCALE, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

BARS: Final = "bars_with_trades"
PAIRS: Final = "traded_pairs"
MAX_ROWS: Final = 1_000_000
_PRICES: Final = ("open", "high", "low", "close")


class Fill(StrEnum):
    """The rows of intervals without trades."""

    NONE = "none"  # they have none
    NULL = "null"  # their trade_count is 0, and the rest is null
    PREVIOUS = "previous"  # their prices are the last close, and volume and notional are 0


def parse_fill(text: str) -> Fill:
    """Parse a fill. Raises `BadQuery`."""
    try:
        return Fill(text)
    except ValueError:
        raise BadQuery(f"fill is one of {', '.join(Fill)}") from None


def statement(fill: Fill) -> str:
    """Return the SQL of the bars `BARS` and a row for every other interval of each of `PAIRS`.

    `PAIRS` has exchange, symbol and the close before the first interval; the parameters are those of `parameters`.
    """
    last = (
        "coalesce(last_value(bar.close IGNORE NULLS) OVER (PARTITION BY exchange, symbol ORDER BY open_time), "
        "pair.previous_close)"
    )
    previous, zero = ("previous", "0") if fill is Fill.PREVIOUS else ("NULL", "NULL")
    empty = "trade_count IS NULL"
    prices = ", ".join(f"CASE WHEN {empty} THEN {previous} ELSE {name} END AS {name}" for name in _PRICES)
    sums = {"volume": SCALE, "notional": 2 * SCALE}
    volume, notional = (
        f"CASE WHEN {empty} THEN {zero} ELSE {name} END::DECIMAL(38,{scale}) AS {name}" for name, scale in sums.items()
    )
    grid = f"(SELECT * FROM {PAIRS}, (SELECT make_timestamptz(unnest($opens::BIGINT[])) AS open_time)) AS pair"  # noqa: S608
    return (
        f"SELECT exchange, symbol, open_time, {prices}, {volume}, coalesce(trade_count, 0) AS trade_count, vwap, "  # noqa: S608
        f"{notional} FROM (SELECT exchange, symbol, open_time, bar.* EXCLUDE (exchange, symbol, open_time), "
        f"{last} AS previous FROM {grid} LEFT JOIN {BARS} AS bar USING (exchange, symbol, open_time)) "
        "ORDER BY open_time, exchange, symbol"
    )


def parameters(opens: Sequence[datetime], pairs: int) -> dict[str, Any]:
    """Return the parameters of `statement`. Raises `BadQuery` where the result would be too large."""
    if len(opens) * max(pairs, 1) > MAX_ROWS:
        raise BadQuery(f"the range has more than {MAX_ROWS} intervals; with fill, shorten it or give a longer interval")
    return {"opens": [to_micros(opened) for opened in opens]}
