"""Binance spot: REST requests and responses."""

from typing import Any

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    NO_ID,
    Gap,
    InvalidItem,
    MalformedFrame,
    NewestTradeSnapshot,
    Page,
    Request,
    SequencedRecord,
    build_trade,
    millis,
    trade_number,
)
from k2.ingest.exchanges.binance.answers import ANSWERS
from k2.ingest.exchanges.binance.messages import AGGREGATES, ROW, RestTrade
from k2.ingest.exchanges.rows import RAW_ROWS, build_items, numbered_page, read_rows
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Source, VendorData

_ROWS = 1000


class BinanceRest(NewestTradeSnapshot):
    """The trade history of Binance spot."""

    def newest_request(self, pair: Pair) -> Request:
        """Request the newest aggregate: it has the last trade id, at a sixth of the weight of a trade request."""
        return Request("/api/v3/aggTrades", {"symbol": pair.raw_symbol, "limit": "1"}, weight=4)

    def parse_newest_id(self, body: bytes) -> int:
        """Return the last trade id of the newest aggregate, or `NO_ID`. Raises like `parse_page`."""
        rows = _decode(AGGREGATES, body)
        return trade_number(rows[-1].l) if rows else NO_ID

    def history_request(self, gap: Gap) -> Request:
        """Request trades by id, 1,000 at a time, from the gap's first."""
        return self._from(gap, gap.first_id)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the gap, and return the next request while ids are left."""
        rows = read_rows(_decode(RAW_ROWS, body), ROW, "id", gap.pair.symbol)
        items = build_items(rows, lambda row: _backfilled(gap.pair, row, received), lambda row: row.id)

        def following(newest: int) -> Request | None:
            return self._from(gap, newest + 1) if newest < gap.last_id else None

        return numbered_page(gap, items, following, low=int(request.params["fromId"]))

    @staticmethod
    def _from(gap: Gap, first: int) -> Request:
        limit = min(_ROWS, gap.last_id - first + 1)
        params = {"symbol": gap.pair.raw_symbol, "fromId": str(first), "limit": str(limit)}
        return Request("/api/v3/historicalTrades", params, weight=25)


def _backfilled(pair: Pair, row: RestTrade, received: int) -> SequencedRecord | InvalidItem:
    number = trade_number(row.id)
    side = Side.SELL if row.isBuyerMaker else Side.BUY
    vendor = vendor_data(pair, sold=row.isBuyerMaker, source=Source.BACKFILL)
    return build_trade(
        "BINANCE", pair, str(number), millis(row.time), row.price, row.qty, side, received, vendor,
        ids=(number, number),
    )  # fmt: skip


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except DECODE_ERRORS as error:
        ANSWERS.check(body)
        raise MalformedFrame(str(error)) from error


def vendor_data(pair: Pair, *, sold: bool, source: Source) -> VendorData:
    """Return the vendor data of a trade; `sold` says that the buyer was the maker."""
    return (("pair", pair.raw_symbol), ("buyer_maker", "true" if sold else "false"), ("source", source.value))
