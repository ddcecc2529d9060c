"""Query the audit tables: completeness per hour, gaps, batches and dead letters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import Unavailable
from k2.query.sql.trade_sql import NUMBER, TradeFilter
from k2.schemas.tables import BATCHES, COMPLETENESS, DEAD_LETTERS, GAPS, GOLD, TRADE_COLUMNS

if TYPE_CHECKING:
    from pyarrow import Table
    from pyiceberg.expressions import BooleanExpression

    from k2.query.engine import Engine

_DEFAULT_RANGE: Final = timedelta(days=7)
_STATE: Final = """CASE WHEN state = 'complete' AND coalesce(by_source['backfill'], 0) > 0 THEN 'repaired'
                         WHEN state = 'incomplete' THEN 'missing' ELSE state END"""


def completeness(engine: Engine, trade_filter: TradeFilter) -> Table:
    """Return the state of each hour and symbol: complete, repaired, missing, open or unverifiable.

    Without a start, the last 7 days are returned.
    """
    start = trade_filter.start or (trade_filter.end or datetime.now(UTC)) - _DEFAULT_RANGE
    trade_filter = TradeFilter(trade_filter.symbol, trade_filter.exchange, start, trade_filter.end)
    return _execute(
        engine,
        f"""SELECT exchange, symbol, hour, {_STATE} AS state, expected, present, missing, by_source,
                   gold_snapshot_id::VARCHAR AS gold_snapshot_id, checked_at
            FROM {COMPLETENESS} WHERE {_condition(trade_filter, "hour")} ORDER BY exchange, symbol, hour""",  # noqa: S608
        {COMPLETENESS: _where(trade_filter, "hour")},
        parameters=trade_filter.parameters,
    )


def gaps(engine: Engine, trade_filter: TradeFilter, state: str | None, limit: int) -> Table:
    """Return gaps, newest first."""
    extra_condition, parameters = (" AND state = $state", {"state": state}) if state else ("", {})
    return _execute(
        engine,
        f"""SELECT * FROM {GAPS} WHERE {_condition(trade_filter, "detected_at")}{extra_condition}
            ORDER BY detected_at DESC, gap_id LIMIT {limit:d}""",  # noqa: S608
        {GAPS: _where(trade_filter, "detected_at")},
        parameters=trade_filter.parameters | parameters,
    )


def dead_letters(engine: Engine, trade_filter: TradeFilter, category: str | None, limit: int) -> Table:
    """Return dead letters without their bytes, newest first."""
    extra_condition, parameters = (" AND error_category = $category", {"category": category}) if category else ("", {})
    return _execute(
        engine,
        f"""SELECT exchange, topic, partition, "offset", schema_id, error_category, error_message, dlq_timestamp,
                   octet_length(value) AS bytes
            FROM {DEAD_LETTERS} WHERE {_condition(trade_filter, "dlq_timestamp")}{extra_condition}
            ORDER BY dlq_timestamp DESC, topic, partition, "offset" DESC LIMIT {limit:d}""",  # noqa: S608
        {DEAD_LETTERS: _where(trade_filter, "dlq_timestamp")},
        parameters=trade_filter.parameters | parameters,
    )


def dead_letter(engine: Engine, topic: str, partition: int, offset: int) -> dict[str, Any] | None:
    """Return one dead letter with its bytes, by topic, partition and offset; None if it does not exist."""
    rows = _execute(
        engine,
        f"""SELECT exchange, topic, partition, "offset", schema_id, error_category, error_message, dlq_timestamp, value
            FROM {DEAD_LETTERS} WHERE topic = $topic AND partition = $partition AND "offset" = $position LIMIT 1""",  # noqa: S608
        {DEAD_LETTERS: None},
        parameters={"topic": topic, "partition": partition, "position": offset},
    ).to_pylist()
    return rows[0] if rows else None


def gap_counts(engine: Engine) -> list[dict[str, Any]]:
    """Count open, repaired and unrecoverable gaps per exchange."""
    statement = f"""SELECT exchange, count(*) FILTER (state = 'open') AS open,
                           count(*) FILTER (state = 'repaired') AS repaired,
                           count(*) FILTER (state = 'unrecoverable') AS unrecoverable
                    FROM {GAPS} GROUP BY ALL"""  # noqa: S608
    return _rows(_execute(engine, statement, {GAPS: None}))


def hour_counts(engine: Engine) -> list[dict[str, Any]]:
    """Count the hours of each state per exchange."""
    statement = f"SELECT exchange, {_STATE} AS state, count(*) AS hours FROM {COMPLETENESS} GROUP BY ALL"  # noqa: S608
    return _rows(_execute(engine, statement, {COMPLETENESS: None}))


def last_batches(engine: Engine) -> list[dict[str, Any]]:
    """Return the newest batch of each exchange and layer, and the totals of all recorded batches."""
    statement = f"""SELECT exchange, layer, max(committed_at) AS committed_at, sum(rows_in)::BIGINT AS rows_in,
                           sum(rows_out)::BIGINT AS rows_out, sum(dead_letters)::BIGINT AS dead_letters,
                           sum(duplicates_dropped)::BIGINT AS duplicates_dropped, count(*) AS batches
                    FROM {BATCHES} GROUP BY ALL ORDER BY ALL"""  # noqa: S608
    return _rows(_execute(engine, statement, {BATCHES: None}))


def prices(engine: Engine, trade_filter: TradeFilter, as_of: int | None) -> Table:
    """Return the last trade of each exchange and symbol within a range: the price at its end.

    The last timestamps are found first, so that the other columns are read for those rows only.
    """
    columns = [name for name in TRADE_COLUMNS if name in {"timestamp", "price", "quantity", "side", "trade_id"}]
    last = f"arg_max({{{', '.join(f'{name}: {name}' for name in columns)}}}, {{n: {NUMBER}, i: trade_id}})"
    traded = f"FROM {GOLD} WHERE {trade_filter.condition} GROUP BY exchange, symbol"
    return _execute(
        engine,
        f"""SELECT exchange, symbol, unnest(last) FROM (
                SELECT exchange, symbol, {last} AS last
                FROM {GOLD} JOIN (SELECT exchange, symbol, max(timestamp) AS timestamp {traded})
                    USING (exchange, symbol, timestamp)
                WHERE {trade_filter.condition} GROUP BY exchange, symbol
            ) ORDER BY exchange, symbol""",  # noqa: S608
        {GOLD: trade_filter.expression},
        as_of=as_of,
        parameters=trade_filter.parameters,
    )


def _execute(
    engine: Engine,
    statement: str,
    tables: dict[str, BooleanExpression | None],
    *,
    as_of: int | None = None,
    parameters: dict[str, Any] | None = None,
) -> Table:
    missing = sorted(set(tables) - {GOLD} - set(engine.names()))
    if missing:
        raise Unavailable(f"there is no table {missing[0]} yet; `k2 up` creates it")
    return engine.execute(statement, tables, as_of=as_of, **(parameters or {}))


def _rows(table: Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _condition(trade_filter: TradeFilter, column: str) -> str:
    return trade_filter.condition.replace("timestamp >=", f"{column} >=").replace("timestamp <", f"{column} <")


def _where(trade_filter: TradeFilter, column: str) -> BooleanExpression | None:
    """Return the time range as an Iceberg predicate, by which files are skipped."""
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

    parts: list[BooleanExpression] = []
    if trade_filter.start:
        parts.append(GreaterThanOrEqual(term=column, value=trade_filter.start.isoformat()))
    if trade_filter.end:
        parts.append(LessThan(term=column, value=trade_filter.end.isoformat()))
    return And(*parts) if len(parts) > 1 else parts[0] if parts else None
