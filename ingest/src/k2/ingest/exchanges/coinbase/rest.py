"""Coinbase Exchange: REST requests and responses."""

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
    trade_number,
)
from k2.ingest.exchanges.coinbase.messages import ROW, TAKER, RestTrade
from k2.ingest.exchanges.rows import RAW_ROWS, build_items, numbered_page, read_rows
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source
from k2.schemas.values import to_micros

_ROWS = 1000


class CoinbaseRest(NewestTradeSnapshot):
    """The trade history of Coinbase Exchange."""

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return Request(f"/products/{pair.raw_symbol}/trades", {"limit": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """Return the id of the newest trade, or `NO_ID`. Raises like `parse_page`."""
        rows = _rows(body, "")
        return max((trade_number(row.trade_id) for row in rows if isinstance(row, RestTrade)), default=NO_ID)

    def history_request(self, gap: Gap) -> Request:
        """Request trades older than the one after the gap, newest first."""
        return self._older_than(gap, gap.last_id + 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the gap, and return the next request while ids are left."""
        rows = _rows(body, gap.pair.symbol)
        items = build_items(rows, lambda row: _backfilled(gap.pair, row, received), lambda row: row.trade_id)

        def following(oldest: int) -> Request | None:
            return self._older_than(gap, oldest) if oldest > gap.first_id else None

        return numbered_page(gap, items, following, descending=True, high=int(request.params["after"]) - 1)

    @staticmethod
    def _older_than(gap: Gap, number: int) -> Request:
        limit = min(_ROWS, number - gap.first_id)
        return Request(f"/products/{gap.pair.raw_symbol}/trades", {"after": str(number), "limit": str(limit)})


def _rows(body: bytes, symbol: str) -> list[RestTrade | InvalidItem]:
    try:
        raws = RAW_ROWS.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error
    return read_rows(raws, ROW, "trade_id", symbol)


def _backfilled(pair: Pair, row: RestTrade, received: int) -> SequencedRecord | InvalidItem:
    number = trade_number(row.trade_id)
    vendor = (("pair", pair.raw_symbol), ("maker_side", row.side), ("source", Source.BACKFILL.value))
    return build_trade(
        "COINBASE", pair, str(number), to_micros(row.time), row.price, row.size, TAKER[row.side], received, vendor,
        ids=(number, number),
    )  # fmt: skip
