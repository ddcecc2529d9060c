"""List every traded symbol. Trades are counted from the bars; only the assets are read from the trades."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Final

from k2.query.sql.record_sql import RecordFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow import Table
    from pyiceberg.expressions import BooleanExpression

    from k2.query.sql.bars import BarPlan

_HOUR: Final = timedelta(hours=1)
_ASSETS: Final = "any_value(base_asset) AS base_asset, any_value(quote_currency) AS quote_currency"
_COUNTS: Final = "SELECT exchange, symbol, {} AS trades, min({}) AS first_trade, max({}) AS last_trade FROM {} WHERE {}"


def from_trades(table: str) -> str:
    """Return the SQL of all columns, from the trades alone."""
    return (
        f"SELECT exchange, symbol, {_ASSETS}, count(*) AS trades, min(timestamp) AS first_trade, "  # noqa: S608
        f"max(timestamp) AS last_trade FROM {table} GROUP BY exchange, symbol ORDER BY exchange, symbol"
    )


def from_bars(bar_plan: BarPlan, minutes: str, trades: str) -> str:
    """Return the SQL of all columns but the assets, from bars and from the trades that the bars do not hold yet."""
    parts = [_COUNTS.format("sum(trades)", "first_at", "last_at", minutes, bar_plan.minutes)]
    if bar_plan.trades:
        parts.append(_COUNTS.format("count(*)", "timestamp", "timestamp", trades, bar_plan.trades))
    both = " UNION ALL ".join(f"{part} GROUP BY ALL" for part in parts)
    whole = _COUNTS.format("sum(trades)::BIGINT", "first_trade", "last_trade", f"({both})", "true")
    return f"{whole} GROUP BY ALL ORDER BY exchange, symbol"


def assets(table: str) -> str:
    """Return the SQL of the assets of each symbol among the given trades."""
    return f"SELECT exchange, symbol, {_ASSETS} FROM {table} GROUP BY ALL"  # noqa: S608


def last_trade_hours(counts: Table) -> BooleanExpression:
    """Match the hours of each symbol's last trade."""
    from pyiceberg.expressions import AlwaysFalse, Or

    hours: list[BooleanExpression] = [
        RecordFilter(None, None, hour, hour + _HOUR).expression("timestamp") for hour in _hours(counts)
    ]
    return reduce(Or, hours) if hours else AlwaysFalse()


def join_assets(counts: Table, known_assets: Table) -> Table:
    """Join the counts with the assets."""
    joined = counts.join(known_assets, ["exchange", "symbol"]).sort_by(
        [("exchange", "ascending"), ("symbol", "ascending")]
    )
    return joined.select(["exchange", "symbol", "base_asset", "quote_currency", "trades", "first_trade", "last_trade"])


def _hours(counts: Table) -> Iterator[datetime]:
    last_hours = {int(at.timestamp()) // 3600 for at in counts.column("last_trade").to_pylist()}
    yield from (datetime.fromtimestamp(3600 * hour, UTC) for hour in sorted(last_hours))
