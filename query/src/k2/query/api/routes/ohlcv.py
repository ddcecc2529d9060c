"""`/v1/ohlcv`: bars of symbols, by time or by activity."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.results import NO_STORE, AcceptedFormat, QueryResult, cache_headers, make_etag, not_modified
from k2.query.api.keys import Scope
from k2.query.api.parameters import RangeParameters
from k2.query.candles import reader
from k2.query.candles.reader import MAX_SYMBOLS, BarQuery
from k2.query.errors import BadQuery

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])


class OhlcvParameters(RangeParameters):
    """Query parameters of `/v1/ohlcv`."""

    symbol: Annotated[
        str,
        Field(max_length=2000, description=f"such as BTCUSDT or BTC/USDT; up to {MAX_SYMBOLS}, separated by commas"),
    ]
    interval: Annotated[
        str | None,
        Field(max_length=10, description="1s to 1d, dividing a day evenly, 1w (from Monday) or 1M; 1m by default"),
    ] = None
    bars: Annotated[
        str | None,
        Field(
            max_length=60,
            description="instead of interval, what ends a bar: tick:1000, volume:10, dollar:1000000, imbalance:50, "
            "run:50, or imbalance:volume:10; each UTC day begins with a new bar",
        ),
    ] = None
    tz: Annotated[
        str | None,
        Field(max_length=64, description="IANA time zone at whose midnight bars begin, such as Europe/Berlin; UTC"),
    ] = None
    limit: Annotated[
        int | None, Field(ge=1, le=1_000_000, description="the newest intervals, or the newest bars of a rule")
    ] = None
    fill: Annotated[
        Literal["none", "null", "previous"],
        Field(description="the rows of intervals without trades: none, nulls, or the previous close"),
    ] = "none"
    hybrid: Annotated[bool, Field(description="include trades that are in Kafka but not yet in Gold; not cached")] = (
        False
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the engine, without as_of and hybrid."""
        named: dict[str, Any] = {"symbol": self.symbol, "interval": self.interval, "bars": self.bars, "tz": self.tz}
        named |= {"exchange": self.exchange, "limit": self.limit, "fill": self.fill}
        return {**named, "start": self.start_time, "end": self.end_time}


@router.get("/v1/ohlcv", responses=response_models.row_responses(response_models.Bars), name="ohlcv")
async def ohlcv(query: Annotated[OhlcvParameters, Query()], accepted: Accepted, slot: Slot) -> StreamedResponse:
    """Open, high, low, close, volume and VWAP, one row per bar, exchange and symbol with trades.

    `complete` is what the audit says of the bar: whether every trade of it was captured. Bars by activity have a
    `close_time`, the time of their last trade.
    """
    return slot.stream(lambda engine: _query(engine, query, accepted))


def _query(engine: "Engine", query: OhlcvParameters, accepted: AcceptedFormat) -> QueryResult:
    arguments = query.arguments
    if query.hybrid:
        if query.as_of is not None:
            raise BadQuery("hybrid reads the present; remove as_of")
        envelope: dict[str, Any] = {"snapshot_id": None}
        return accepted.encode(
            engine.ohlcv_reader(**arguments, hybrid=True), {"Cache-Control": NO_STORE}, lambda _: envelope
        )
    snapshot = engine.snapshot_id(query.as_of_value)
    version = reader.version(engine, BarQuery.of(**arguments, as_of=snapshot))
    etag = make_etag(accepted, "ohlcv", snapshot, version, *arguments.values())
    headers = cache_headers(etag, immutable=query.immutable and version is None) | {"K2-Snapshot": str(snapshot)}
    if accepted.matches(etag):
        return not_modified(headers)
    envelope = {"snapshot_id": snapshot and str(snapshot)}
    return accepted.encode(engine.ohlcv_reader(**arguments, as_of=snapshot), headers, lambda _: envelope)
