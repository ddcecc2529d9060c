"""Every symbol that was ever traded, counted from the bars: the trades themselves say only what its assets are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Final

from k2.query.sql.bars import Mixture
from k2.query.sql.trade_sql import Wanted

if TYPE_CHECKING:
    from pyarrow import Table
    from pyiceberg.expressions import BooleanExpression

_HOUR: Final = timedelta(hours=1)
_ASSETS: Final = "any_value(base_asset) AS base_asset, any_value(quote_currency) AS quote_currency"
_COUNTS: Final = "SELECT exchange, symbol, {} AS trades, min({}) AS first_trade, max({}) AS last_trade FROM {} WHERE {}"


def of_trades(table: str) -> str:
    """All columns, from the trades alone."""
    return (
        f"SELECT exchange, symbol, {_ASSETS}, count(*) AS trades, min(timestamp) AS first_trade, "  # noqa: S608
        f"max(timestamp) AS last_trade FROM {table} GROUP BY exchange, symbol ORDER BY exchange, symbol"
    )


def of_bars(mixture: Mixture, minutes: str, trades: str) -> str:
    """All columns but the assets, from bars and from the trades that the bars do not hold yet."""
    parts = [_COUNTS.format("sum(trades)", "first_at", "last_at", minutes, mixture.minutes)]
    if mixture.trades:
        parts.append(_COUNTS.format("count(*)", "timestamp", "timestamp", trades, mixture.trades))
    both = " UNION ALL ".join(f"{part} GROUP BY ALL" for part in parts)
    whole = _COUNTS.format("sum(trades)::BIGINT", "first_trade", "last_trade", f"({both})", "true")
    return f"{whole} GROUP BY ALL ORDER BY exchange, symbol"


def assets(table: str) -> str:
    """The assets of each symbol that is traded in what is read of the trades."""
    return f"SELECT exchange, symbol, {_ASSETS} FROM {table} GROUP BY ALL"  # noqa: S608


def last_hours(counted: "Table") -> "BooleanExpression":
    """Where each symbol's last trade is."""
    from pyiceberg.expressions import AlwaysFalse, Or

    hours: list[BooleanExpression] = [Wanted(None, None, hour, hour + _HOUR).expression for hour in _hours(counted)]
    return reduce(Or, hours) if hours else AlwaysFalse()


def joined(counted: "Table", known: "Table") -> "Table":
    """All columns, of what was counted and of whose assets are known."""
    found = counted.join(known, ["exchange", "symbol"]).sort_by([("exchange", "ascending"), ("symbol", "ascending")])
    return found.select(["exchange", "symbol", "base_asset", "quote_currency", "trades", "first_trade", "last_trade"])


def _hours(counted: "Table") -> Iterator[datetime]:
    lasts = {int(at.timestamp()) // 3600 for at in counted.column("last_trade").to_pylist()}
    yield from (datetime.fromtimestamp(3600 * hour, UTC) for hour in sorted(lasts))
