"""`/v1/feeds`, `/v1/completeness`, `/v1/gaps`: whether all is there, and how new it is."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi.requests import Request
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.encoding import response_models
from k2.query.api.encoding.formats import Media
from k2.query.api.errors import Refused
from k2.query.api.keys import Scope
from k2.query.api.parameters import Exchange, Parameters, Symbol, Time, moment
from k2.query.api.responses import SHORT, Answer, Reply, Wish, asking
from k2.query.api.settings import PAGE
from k2.query.execution.json_values import plain
from k2.query.sql import audit_tables
from k2.query.sql.trade_sql import Wanted
from k2.schemas.exchanges.spec import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyarrow import Table

    from k2.query.api.routes.prices import Symbols
    from k2.query.engine import Engine

router = APIRouter(tags=["health of the data"], dependencies=[Depends(requires(Scope.READ))])
_LAYERS: Final = ("bronze", "silver", "gold")
_GAPS: Final = ("open", "repaired", "unrecoverable")


class RangeParameters(Parameters):
    """What questions to the audit's tables can say."""

    exchange: Exchange | None = None
    start: Time | None = None
    end: Time | None = None

    @property
    def wanted(self) -> Wanted:
        """The same, read."""
        symbol = getattr(self, "symbol", None)
        return Wanted.of(symbol, self.exchange, moment(self.start, "start"), moment(self.end, "end"))


class HourParameters(RangeParameters):
    """What `/v1/completeness` can be asked."""

    symbol: Symbol | None = None


class GapParameters(HourParameters):
    """What `/v1/gaps` can be asked."""

    limit: Annotated[int, Field(ge=1, le=PAGE)] = 1000
    state: Literal["open", "repaired", "unrecoverable"] | None = None


@router.get("/v1/feeds", responses={200: {"model": response_models.Rows}, **response_models.errors()}, name="feeds")
async def feeds(request: Request) -> Answer:
    """A row an exchange: its layers with rows and newest commit, gaps, dead letters, and hours by their state."""
    if Wish.of(request).media is not Media.JSON:
        raise Refused(406, f"feeds are told as {Media.JSON} only")
    counted = request.app.state.symbols
    return asking(request, lambda engine: _feeds(engine, counted))


@router.get("/v1/completeness", responses=response_models.rows(response_models.Rows), name="completeness")
async def completeness(request: Request, query: Annotated[HourParameters, Query()]) -> Answer:
    """A row a symbol and hour, as the audit judged it: complete, repaired, missing, open, or unverifiable.

    Without a start, the 7 days before `end` or now. `missing` are the ranges of ids that Gold lacks.
    """
    return _rows(request, lambda engine: audit_tables.completeness(engine, query.wanted))


@router.get("/v1/gaps", responses=response_models.rows(response_models.Rows), name="gaps")
async def gaps(request: Request, query: Annotated[GapParameters, Query()]) -> Answer:
    """Gaps in the exchanges' numbering, the newest first, with what became of them."""
    return _rows(request, lambda engine: audit_tables.gaps(engine, query.wanted, query.state, query.limit))


def _rows(request: Request, question: "Callable[[Engine], Table]") -> Answer:
    wish = Wish.of(request)

    def reply(engine: "Engine") -> Reply:
        return wish.reply(question(engine).to_reader(), {"Cache-Control": SHORT}, whole=True)

    return asking(request, reply)


def _feeds(engine: "Engine", counted: "Symbols") -> Reply:
    _, symbols = counted.table(engine)
    found: dict[str, dict[str, Any]] = {}

    def of(exchange: str) -> dict[str, Any]:
        blank = {"exchange": exchange, "symbols": 0, "layers": {}, "gaps": dict.fromkeys(_GAPS, 0), "dead_letters": 0}
        return found.setdefault(exchange, blank | {"hours": {}})

    in_gold: dict[str, int] = {}
    for row in symbols.to_pylist():
        of(row["exchange"])["symbols"] += 1
        in_gold[row["exchange"]] = in_gold.get(row["exchange"], 0) + row["trades"]
    for row in audit_tables.gap_counts(engine):
        of(row["exchange"])["gaps"] = {state: row[state] for state in _GAPS}
    for row in audit_tables.hour_counts(engine):
        of(row["exchange"])["hours"][row["state"]] = row["hours"]
    for row in audit_tables.last_batches(engine):
        about = of(row["exchange"])
        about["layers"][row["layer"]] = _layer(row)
        about["dead_letters"] += row["dead_letters"] or 0
    held = set(engine.names())
    for exchange, about in found.items():
        for layer in _LAYERS:
            rows = in_gold.get(exchange, 0) if layer == "gold" else _held(engine, layer, exchange, held)
            about["layers"].setdefault(layer, {})["rows"] = rows
    body = msgspec.json.encode({"data": plain([found[exchange] for exchange in sorted(found)])})
    return Reply(iter([body]), {"Cache-Control": SHORT})


def _layer(row: dict[str, Any]) -> dict[str, Any]:
    age = (datetime.now(UTC) - row["committed_at"]).total_seconds()
    names = ("committed_at", "rows_in", "rows_out", "dead_letters", "duplicates_dropped", "batches")
    return {"age_seconds": round(max(0.0, age), 1)} | {name: row[name] for name in names}


def _held(engine: "Engine", layer: str, exchange: str, tables: set[str]) -> int:
    """How many rows a layer's table holds now."""
    name = next((name for name, about in EXCHANGES.items() if about.label == exchange), exchange.lower())
    table = f"{layer}_{name}_trades"
    if table not in tables:
        return 0
    return next((row["total_rows"] or 0 for row in engine.snapshots(table).to_pylist() if row["current"]), 0)
