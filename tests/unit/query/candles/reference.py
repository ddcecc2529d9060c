"""Bars by activity in plain Python: what the engine's must equal."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Context, Decimal
from typing import Any

EXACT = Context(prec=100)


def reference_bars(trades: Iterable[Mapping[str, Any]], kind: str, measure: str, threshold: Decimal) -> list[list[Any]]:
    """Return exchange, symbol, open_time, close_time, open, high, low, close, volume, trades, notional of each bar."""
    bars = [_bar(rows) for rows in _groups(sorted(trades, key=_order), kind, measure, threshold)]
    return sorted(bars, key=lambda bar: (bar[2], bar[0], bar[1]))  # stable: bars of one instant stay in their order


def _order(trade: Mapping[str, Any]) -> tuple[Any, ...]:
    return trade["exchange"], trade["symbol"], trade["timestamp"], int(trade["trade_id"])


def _groups(trades: Iterable[Any], kind: str, measure: str, threshold: Decimal) -> Iterator[list[Any]]:
    rows: list[Any] = []
    bought = sold = Decimal(0)
    for trade in trades:
        place = (trade["exchange"], trade["symbol"], trade["timestamp"].date())
        if rows and place != (rows[-1]["exchange"], rows[-1]["symbol"], rows[-1]["timestamp"].date()):
            yield rows  # a day, or a symbol, ends its last bar
            rows, bought, sold = [], Decimal(0), Decimal(0)
        rows.append(trade)
        values = {"tick": Decimal(1), "volume": trade["quantity"], "dollar": _notional(trade)}
        if trade["side"] == "BUY":
            bought = EXACT.add(bought, values[measure])
        else:
            sold = EXACT.add(sold, values[measure])
        reached = {"sum": EXACT.add(bought, sold), "imbalance": abs(bought - sold), "run": max(bought, sold)}
        if reached[kind] >= threshold:
            yield rows
            rows, bought, sold = [], Decimal(0), Decimal(0)
    if rows:
        yield rows


def _notional(trade: Mapping[str, Any]) -> Decimal:
    return EXACT.multiply(trade["price"], trade["quantity"])


def _bar(rows: list[Any]) -> list[Any]:
    prices, volume, notional = [row["price"] for row in rows], Decimal(0), Decimal(0)
    for row in rows:
        volume, notional = EXACT.add(volume, row["quantity"]), EXACT.add(notional, _notional(row))
    first, last = rows[0], rows[-1]
    bar = [first["exchange"], first["symbol"], first["timestamp"], last["timestamp"], prices[0], max(prices)]
    return [*bar, min(prices), prices[-1], volume, len(rows), notional]
