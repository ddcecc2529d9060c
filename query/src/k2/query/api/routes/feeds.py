"""`/v1/feeds`, `/v1/completeness`, `/v1/gaps`: completeness and freshness of the data."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.formats import MediaType
from k2.query.api.encoding.results import SHORT_LIVED, AcceptedFormat, QueryResult
from k2.query.api.keys import Scope
from k2.query.api.parameters import ChannelName, Exchange, Parameters, Symbol, Time, parse_channel, parse_time
from k2.query.api.routes.prices import CachedSymbols, SymbolCache
from k2.query.api.settings import MAX_PAGE_ROWS
from k2.query.execution.json_values import to_json_value
from k2.query.sql import audit_tables
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.states import GapState

if TYPE_CHECKING:
    from pyarrow import Table

    from k2.query.engine import Engine

router = APIRouter(tags=["health of the data"], dependencies=[Depends(requires(Scope.READ))])
_LAYERS: Final = ("bronze", "silver", "gold")
_TABLES: Final = {"bronze": TRADES.bronze, "silver": TRADES.silver}  # of one exchange
_GAP_STATES: Final = tuple(GapState)


class RangeParameters(Parameters):
    """Query parameters shared by the audit tables."""

    exchange: Exchange | None = None
    start: Time | None = None
    end: Time | None = None

    @property
    def record_filter(self) -> RecordFilter:
        """The parsed parameters."""
        symbol = getattr(self, "symbol", None)
        return RecordFilter.of(symbol, self.exchange, parse_time(self.start, "start"), parse_time(self.end, "end"))


class CompletenessParameters(RangeParameters):
    """Query parameters of `/v1/completeness`."""

    symbol: Symbol | None = None
    channel: ChannelName = TRADES.name


class GapParameters(CompletenessParameters):
    """Query parameters of `/v1/gaps`."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_ROWS)] = 1000
    state: GapState | None = None


@router.get(
    "/v1/feeds", responses={200: {"model": response_models.Rows}, **response_models.error_responses()}, name="feeds"
)
async def feeds(symbol_cache: CachedSymbols, accepted: Accepted, slot: Slot) -> StreamedResponse:
    """One row per exchange: layers with rows and newest commit, gaps, dead letters, and hours by state."""
    if accepted.media_type is not MediaType.JSON:
        raise HTTPException(406, f"feeds are available as {MediaType.JSON} only")
    return slot.stream(lambda engine: _feeds(engine, symbol_cache))


@router.get("/v1/completeness", responses=response_models.row_responses(response_models.Rows), name="completeness")
async def completeness(
    query: Annotated[CompletenessParameters, Query()], accepted: Accepted, slot: Slot
) -> StreamedResponse:
    """One row per symbol and hour, with the audit's state: complete, repaired, missing, open, or unverifiable.

    Without `start`: the 7 days before `end` or now. `missing` lists the id ranges that Gold lacks. Quotes and books
    have no consecutive ids: `seconds` says how many of the hour are verified, unverifiable, suspect and missing.
    """
    channel = parse_channel(query.channel)
    return slot.stream(lambda engine: _rows(audit_tables.completeness(engine, channel, query.record_filter), accepted))


@router.get("/v1/gaps", responses=response_models.row_responses(response_models.Rows), name="gaps")
async def gaps(query: Annotated[GapParameters, Query()], accepted: Accepted, slot: Slot) -> StreamedResponse:
    """Gaps in the exchanges' sequences, newest first, with their state."""
    channel = parse_channel(query.channel)

    def run(engine: "Engine") -> QueryResult:
        return _rows(audit_tables.gaps(engine, channel, query.record_filter, query.state, query.limit), accepted)

    return slot.stream(run)


def _rows(table: "Table", accepted: AcceptedFormat) -> QueryResult:
    return accepted.encode(table.to_reader(), {"Cache-Control": SHORT_LIVED}, whole=True)


def _feeds(engine: "Engine", symbol_cache: SymbolCache) -> QueryResult:
    _, symbols = symbol_cache.table(engine)
    feeds: dict[str, dict[str, Any]] = {}

    def feed_of(exchange: str) -> dict[str, Any]:
        empty = {
            "exchange": exchange,
            "symbols": 0,
            "layers": {},
            "gaps": dict.fromkeys(_GAP_STATES, 0),
            "dead_letters": 0,
        }
        return feeds.setdefault(exchange, empty | {"hours": {}})

    in_gold: dict[str, int] = {}
    for row in symbols.to_pylist():
        feed_of(row["exchange"])["symbols"] += 1
        in_gold[row["exchange"]] = in_gold.get(row["exchange"], 0) + row["trades"]
    for row in audit_tables.gap_counts(engine, TRADES):
        feed_of(row["exchange"])["gaps"] = {state: row[state] for state in _GAP_STATES}
    for row in audit_tables.hour_counts(engine, TRADES):
        feed_of(row["exchange"])["hours"][row["state"]] = row["hours"]
    for row in audit_tables.last_batches(engine, TRADES):
        feed = feed_of(row["exchange"])
        feed["layers"][row["layer"]] = _layer(row)
        feed["dead_letters"] += row["dead_letters"] or 0
    tables = set(engine.names())
    for exchange, feed in feeds.items():
        for layer in _LAYERS:
            rows = in_gold.get(exchange, 0) if layer == "gold" else _row_count(engine, layer, exchange, tables)
            feed["layers"].setdefault(layer, {})["rows"] = rows
    body = msgspec.json.encode({"data": to_json_value([feeds[exchange] for exchange in sorted(feeds)])})
    return QueryResult(iter([body]), {"Cache-Control": SHORT_LIVED})


def _layer(row: dict[str, Any]) -> dict[str, Any]:
    age = (datetime.now(UTC) - row["committed_at"]).total_seconds()
    names = ("committed_at", "rows_in", "rows_out", "dead_letters", "duplicates_dropped", "batches")
    return {"age_seconds": round(max(0.0, age), 1)} | {name: row[name] for name in names}


def _row_count(engine: "Engine", layer: str, exchange: str, tables: set[str]) -> int:
    """Return the current number of rows of a layer's table."""
    name = next((name for name, spec in EXCHANGES.items() if spec.label == exchange), exchange.lower())
    table = _TABLES[layer](name).name
    if table not in tables:
        return 0
    return next((row["total_rows"] or 0 for row in engine.snapshots(table).to_pylist() if row["current"]), 0)
