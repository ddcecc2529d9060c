"""Query the audit tables: completeness per hour, gaps, batches and dead letters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import Unavailable
from k2.query.sql.trade_sql import NUMBER
from k2.schemas.channels import TRADES
from k2.schemas.states import GapState
from k2.schemas.tables import BATCHES, COMPLETENESS, DEAD_LETTERS, GAPS, GOLD

if TYPE_CHECKING:
    from pyarrow import Table
    from pyiceberg.expressions import BooleanExpression

    from k2.query.engine import Engine
    from k2.query.sql.record_sql import RecordFilter
    from k2.schemas.channels import Channel

_DEFAULT_RANGE: Final = timedelta(days=7)
_CHANNEL: Final = "channel = $channel"
_STATE: Final = """CASE WHEN state = 'complete' AND coalesce(by_source['backfill'], 0) > 0 THEN 'repaired'
                         WHEN state = 'incomplete' THEN 'missing' ELSE state END"""

# Verdicts are appended, and of those on an hour the newest is in force.
_IN_FORCE: Final = "QUALIFY row_number() OVER (PARTITION BY exchange, symbol, hour ORDER BY checked_at DESC) = 1"


def completeness(engine: Engine, channel: Channel, record_filter: RecordFilter) -> Table:
    """Return the state of each hour and symbol of a channel: complete, repaired, missing, open or unverifiable.

    Without a start, the last 7 days are returned.
    """
    start = record_filter.start or (record_filter.end or datetime.now(UTC)) - _DEFAULT_RANGE
    record_filter = replace(record_filter, start=start)
    seconds = (
        "seconds" if "seconds" in engine.relations().get(COMPLETENESS, ()) else "NULL AS seconds"
    )  # older tables have none
    return _execute(
        engine,
        f"""SELECT exchange, symbol, hour, {_STATE} AS state, expected, actual, missing, by_source, {seconds},
                   gold_snapshot_id::VARCHAR AS gold_snapshot_id, checked_at
            FROM {COMPLETENESS} WHERE {_CHANNEL} AND {record_filter.condition("hour")} {_IN_FORCE}
            ORDER BY exchange, symbol, hour""",  # noqa: S608
        {COMPLETENESS: record_filter.time_expression("hour")},
        parameters=record_filter.parameters | {"channel": channel.name},
    )


def gaps(engine: Engine, channel: Channel, record_filter: RecordFilter, state: str | None, limit: int) -> Table:
    """Return the gaps of a channel, newest first."""
    extra_condition, parameters = (" AND state = $state", {"state": state}) if state else ("", {})
    return _execute(
        engine,
        f"""SELECT * EXCLUDE (channel) FROM {GAPS}
            WHERE {_CHANNEL} AND {record_filter.condition("detected_at")}{extra_condition}
            ORDER BY detected_at DESC, gap_id LIMIT {limit:d}""",  # noqa: S608
        {GAPS: record_filter.time_expression("detected_at")},
        parameters=record_filter.parameters | {"channel": channel.name} | parameters,
    )


def dead_letters(
    engine: Engine, channel: Channel, record_filter: RecordFilter, category: str | None, limit: int
) -> Table:
    """Return the dead letters of a channel without their bytes, newest first."""
    extra_condition, parameters = (" AND error_category = $category", {"category": category}) if category else ("", {})
    return _execute(
        engine,
        f"""SELECT exchange, topic, partition, "offset", schema_id, error_category, error_message, dead_lettered_at,
                   octet_length(value) AS bytes
            FROM {DEAD_LETTERS}
            WHERE {_CHANNEL} AND {record_filter.condition("dead_lettered_at")}{extra_condition}
            ORDER BY dead_lettered_at DESC, topic, partition, "offset" DESC LIMIT {limit:d}""",  # noqa: S608
        {DEAD_LETTERS: record_filter.time_expression("dead_lettered_at")},
        parameters=record_filter.parameters | {"channel": channel.name} | parameters,
    )


def dead_letter(engine: Engine, topic: str, partition: int, offset: int) -> dict[str, Any] | None:
    """Return one dead letter with its bytes, by topic, partition and offset; None if it does not exist."""
    rows = _execute(
        engine,
        f"""SELECT exchange, topic, partition, "offset", schema_id, error_category, error_message, dead_lettered_at,
                   value
            FROM {DEAD_LETTERS} WHERE topic = $topic AND partition = $partition AND "offset" = $position LIMIT 1""",  # noqa: S608
        {DEAD_LETTERS: None},
        parameters={"topic": topic, "partition": partition, "position": offset},
    ).to_pylist()
    return rows[0] if rows else None


def gap_counts(engine: Engine, channel: Channel) -> list[dict[str, Any]]:
    """Count a channel's gaps of each state per exchange."""
    counts = ", ".join(f"count(*) FILTER (state = '{state}') AS {state}" for state in GapState)
    statement = f"SELECT exchange, {counts} FROM {GAPS} WHERE {_CHANNEL} GROUP BY ALL"  # noqa: S608
    return _rows(_execute(engine, statement, {GAPS: None}, parameters={"channel": channel.name}))


def hour_counts(engine: Engine, channel: Channel) -> list[dict[str, Any]]:
    """Count a channel's hours of each state per exchange."""
    statement = f"""SELECT exchange, {_STATE} AS state, count(*) AS hours
                    FROM (SELECT exchange, state, by_source FROM {COMPLETENESS} WHERE {_CHANNEL} {_IN_FORCE})
                    GROUP BY ALL"""  # noqa: S608
    return _rows(_execute(engine, statement, {COMPLETENESS: None}, parameters={"channel": channel.name}))


def last_batches(engine: Engine, channel: Channel) -> list[dict[str, Any]]:
    """Return a channel's newest batch of each exchange and layer, and the totals of all its recorded batches."""
    statement = f"""SELECT exchange, layer, max(committed_at) AS committed_at, sum(rows_in)::BIGINT AS rows_in,
                           sum(rows_out)::BIGINT AS rows_out, sum(dead_letters)::BIGINT AS dead_letters,
                           sum(duplicates_dropped)::BIGINT AS duplicates_dropped, count(*) AS batches
                    FROM {BATCHES} WHERE {_CHANNEL} GROUP BY ALL ORDER BY ALL"""  # noqa: S608
    return _rows(_execute(engine, statement, {BATCHES: None}, parameters={"channel": channel.name}))


def prices(engine: Engine, trade_filter: RecordFilter, as_of: int | None) -> Table:
    """Return the last trade of each exchange and symbol within a range: the price at its end.

    The last timestamps are found first, so that the other columns are read for those rows only.
    """
    columns = [name for name in TRADES.column_names if name in {"timestamp", "price", "quantity", "side", "trade_id"}]
    last = f"arg_max({{{', '.join(f'{name}: {name}' for name in columns)}}}, {{n: {NUMBER}, i: trade_id}})"
    traded = f"FROM {GOLD} WHERE {trade_filter.condition('timestamp')} GROUP BY exchange, symbol"
    return _execute(
        engine,
        f"""SELECT exchange, symbol, unnest(last) FROM (
                SELECT exchange, symbol, {last} AS last
                FROM {GOLD} JOIN (SELECT exchange, symbol, max(timestamp) AS timestamp {traded})
                    USING (exchange, symbol, timestamp)
                WHERE {trade_filter.condition("timestamp")} GROUP BY exchange, symbol
            ) ORDER BY exchange, symbol""",  # noqa: S608
        {GOLD: trade_filter.expression("timestamp")},
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


def _has_column(engine: Engine, table: str, column: str) -> bool:
    return table in engine.names() and column in engine.columns(table)


def _rows(table: Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
