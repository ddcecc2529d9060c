"""What the audit tables say, as questions to the engine: hours, gaps, batches, dead letters."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import Unavailable
from k2.query.sql.trade_sql import NUMBER, Wanted
from k2.schemas.tables import BATCHES, COMPLETENESS, DEAD_LETTERS, GAPS, GOLD, TRADE_COLUMNS

if TYPE_CHECKING:
    from pyarrow import Table
    from pyiceberg.expressions import BooleanExpression

    from k2.query.engine import Engine

_RECENT: Final = timedelta(days=7)
_JUDGED: Final = """CASE WHEN state = 'complete' AND coalesce(by_source['backfill'], 0) > 0 THEN 'repaired'
                         WHEN state = 'incomplete' THEN 'missing' ELSE state END"""


def completeness(engine: "Engine", wanted: Wanted) -> "Table":
    """A row an hour and symbol, judged: complete, repaired, missing, open, unverifiable. Without a start, of 7 days."""
    start = wanted.start or (wanted.end or datetime.now(UTC)) - _RECENT
    wanted = Wanted(wanted.symbol, wanted.exchange, start, wanted.end)
    return _ask(
        engine,
        f"""SELECT exchange, symbol, hour, {_JUDGED} AS state, expected, present, missing, by_source,
                   gold_snapshot_id::VARCHAR AS gold_snapshot_id, checked_at
            FROM {COMPLETENESS} WHERE {_condition(wanted, "hour")} ORDER BY exchange, symbol, hour""",  # noqa: S608
        {COMPLETENESS: _where(wanted, "hour")},
        parameters=wanted.parameters,
    )


def gaps(engine: "Engine", wanted: Wanted, state: str | None, limit: int) -> "Table":
    """The newest gaps first."""
    more, parameters = (" AND state = $state", {"state": state}) if state else ("", {})
    return _ask(
        engine,
        f"""SELECT * FROM {GAPS} WHERE {_condition(wanted, "detected_at")}{more}
            ORDER BY detected_at DESC, gap_id LIMIT {limit:d}""",  # noqa: S608
        {GAPS: _where(wanted, "detected_at")},
        parameters=wanted.parameters | parameters,
    )


def dead_letters(engine: "Engine", wanted: Wanted, category: str | None, limit: int) -> "Table":
    """The newest dead letters first, without their bytes."""
    more, parameters = (" AND error_category = $category", {"category": category}) if category else ("", {})
    return _ask(
        engine,
        f"""SELECT exchange, topic, partition, "offset", schema_id, error_category, error_message, dlq_timestamp,
                   octet_length(value) AS bytes
            FROM {DEAD_LETTERS} WHERE {_condition(wanted, "dlq_timestamp")}{more}
            ORDER BY dlq_timestamp DESC, topic, partition, "offset" DESC LIMIT {limit:d}""",  # noqa: S608
        {DEAD_LETTERS: _where(wanted, "dlq_timestamp")},
        parameters=wanted.parameters | parameters,
    )


def dead_letter(engine: "Engine", topic: str, partition: int, offset: int) -> dict[str, Any] | None:
    """One dead letter with its bytes, by where it lay in Kafka; None if there is none."""
    found = _ask(
        engine,
        f"""SELECT exchange, topic, partition, "offset", schema_id, error_category, error_message, dlq_timestamp, value
            FROM {DEAD_LETTERS} WHERE topic = $topic AND partition = $partition AND "offset" = $place LIMIT 1""",  # noqa: S608
        {DEAD_LETTERS: None},
        parameters={"topic": topic, "partition": partition, "place": offset},
    ).to_pylist()
    return found[0] if found else None


def gap_counts(engine: "Engine") -> list[dict[str, Any]]:
    """Of each exchange: how many gaps are open, repaired, unrecoverable."""
    statement = f"""SELECT exchange, count(*) FILTER (state = 'open') AS open,
                           count(*) FILTER (state = 'repaired') AS repaired,
                           count(*) FILTER (state = 'unrecoverable') AS unrecoverable
                    FROM {GAPS} GROUP BY ALL"""  # noqa: S608
    return _rows(_ask(engine, statement, {GAPS: None}))


def hour_counts(engine: "Engine") -> list[dict[str, Any]]:
    """Of each exchange: how many hours of its symbols are in which state."""
    statement = f"SELECT exchange, {_JUDGED} AS state, count(*) AS hours FROM {COMPLETENESS} GROUP BY ALL"  # noqa: S608
    return _rows(_ask(engine, statement, {COMPLETENESS: None}))


def last_batches(engine: "Engine") -> list[dict[str, Any]]:
    """Of each exchange and layer: its newest batch, and what all batches that are on record held."""
    statement = f"""SELECT exchange, layer, max(committed_at) AS committed_at, sum(rows_in)::BIGINT AS rows_in,
                           sum(rows_out)::BIGINT AS rows_out, sum(dead_letters)::BIGINT AS dead_letters,
                           sum(duplicates_dropped)::BIGINT AS duplicates_dropped, count(*) AS batches
                    FROM {BATCHES} GROUP BY ALL ORDER BY ALL"""  # noqa: S608
    return _rows(_ask(engine, statement, {BATCHES: None}))


def prices(engine: "Engine", wanted: Wanted, as_of: int | None) -> "Table":
    """The last trade of each exchange and symbol within a range: what its price was at the end of it.

    The last times are looked for before anything else, so that of other columns only their rows are read.
    """
    shown = [name for name in TRADE_COLUMNS if name in {"timestamp", "price", "quantity", "side", "trade_id"}]
    last = f"arg_max({{{', '.join(f'{name}: {name}' for name in shown)}}}, {{n: {NUMBER}, i: trade_id}})"
    traded = f"FROM {GOLD} WHERE {wanted.condition} GROUP BY exchange, symbol"
    return _ask(
        engine,
        f"""SELECT exchange, symbol, unnest(last) FROM (
                SELECT exchange, symbol, {last} AS last
                FROM {GOLD} JOIN (SELECT exchange, symbol, max(timestamp) AS timestamp {traded})
                    USING (exchange, symbol, timestamp)
                WHERE {wanted.condition} GROUP BY exchange, symbol
            ) ORDER BY exchange, symbol""",  # noqa: S608
        {GOLD: wanted.expression},
        as_of=as_of,
        parameters=wanted.parameters,
    )


def _ask(
    engine: "Engine",
    statement: str,
    tables: "dict[str, BooleanExpression | None]",
    *,
    as_of: int | None = None,
    parameters: "dict[str, Any] | None" = None,
) -> "Table":
    missing = sorted(set(tables) - {GOLD} - set(engine.names()))
    if missing:
        raise Unavailable(f"there is no table {missing[0]} yet; it comes with the first `k2 up`")
    return engine.ask(statement, tables, as_of=as_of, **(parameters or {}))


def _rows(table: "Table") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def _condition(wanted: Wanted, column: str) -> str:
    return wanted.condition.replace("timestamp >=", f"{column} >=").replace("timestamp <", f"{column} <")


def _where(wanted: Wanted, column: str) -> "BooleanExpression | None":
    """For Iceberg: the range of time, by which files are skipped."""
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

    parts: list[BooleanExpression] = []
    if wanted.start:
        parts.append(GreaterThanOrEqual(term=column, value=wanted.start.isoformat()))
    if wanted.end:
        parts.append(LessThan(term=column, value=wanted.end.isoformat()))
    return And(*parts) if len(parts) > 1 else parts[0] if parts else None
