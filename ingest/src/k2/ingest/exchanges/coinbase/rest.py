"""Coinbase Exchange: REST requests and responses."""

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    Gap,
    InvalidItem,
    MalformedFrame,
    NewestTradeSnapshot,
    Page,
    Request,
    SequencedRecord,
    build_trade,
    partition,
    positive_id,
)
from k2.ingest.exchanges.coinbase.messages import ROWS, TAKER, RestTrade
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
        """Return the id of the newest trade; 0 if there is none."""
        return max((row.trade_id for row in _rows(body)), default=0)

    def history_request(self, gap: Gap) -> Request:
        """Request trades older than the one after the gap, newest first."""
        return self._older_than(gap, gap.last_id + 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the gap, and return the next request while ids are left."""
        rows = _rows(body)
        items = (_backfilled(gap.pair, row, received) for row in rows if gap.first_id <= row.trade_id <= gap.last_id)
        trades, invalid = partition(items)
        oldest = min((row.trade_id for row in rows), default=0)
        next_request = self._older_than(gap, oldest) if oldest > gap.first_id else None
        return Page(trades, invalid, next_request)

    @staticmethod
    def _older_than(gap: Gap, number: int) -> Request:
        limit = min(_ROWS, number - gap.first_id)
        return Request(f"/products/{gap.pair.raw_symbol}/trades", {"after": str(number), "limit": str(limit)})


def _rows(body: bytes) -> list[RestTrade]:
    try:
        return ROWS.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error


def _backfilled(pair: Pair, row: RestTrade, received: int) -> SequencedRecord | InvalidItem:
    number = positive_id(row.trade_id)
    vendor = (("pair", pair.raw_symbol), ("maker_side", row.side), ("source", Source.BACKFILL.value))
    return build_trade(
        "COINBASE", pair, str(number), to_micros(row.time), row.price, row.size, TAKER[row.side], received, vendor,
        ids=(number, number),
    )  # fmt: skip
