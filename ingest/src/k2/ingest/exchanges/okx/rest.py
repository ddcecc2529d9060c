"""OKX v5 spot: REST requests and responses."""

from collections.abc import Mapping

from k2.ingest.exchanges.base import (
    AGGREGATE,
    DECODE_ERRORS,
    NO_ID,
    UNSUBSCRIBED,
    Gap,
    InvalidItem,
    MalformedFrame,
    NewestTradeSnapshot,
    Page,
    Request,
    SequencedRecord,
    build_trade,
    millis_text,
    trade_number,
)
from k2.ingest.exchanges.okx.answers import ANSWERS
from k2.ingest.exchanges.okx.messages import RESPONSE, ROW, SIDES, TradeItem
from k2.ingest.exchanges.rows import build_items, numbered_page, read_rows
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_ROWS = 100
_ONE_FILL = (None, "1", 1, "")


class OkxRest(NewestTradeSnapshot):
    """The trade history of OKX v5 spot."""

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return Request("/api/v5/market/trades", {"instId": pair.raw_symbol, "limit": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """Return the id of the newest trade, or `NO_ID`. Raises like `parse_page`."""
        rows = _rows(body, "")
        return max((trade_number(row.tradeId) for row in rows if isinstance(row, TradeItem)), default=NO_ID)

    def history_request(self, gap: Gap) -> Request:
        """Request single fills older than the trade after the gap, newest first."""
        return self._older_than(gap, gap.last_id + 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the gap, and return the next request while ids are left."""
        rows = _rows(body, gap.pair.symbol)
        for row in rows:
            if isinstance(row, TradeItem) and row.instId != gap.pair.raw_symbol:
                raise MalformedFrame(f"rows of {row.instId[:40]!r} instead of {gap.pair.raw_symbol}")
        pairs = {gap.pair.raw_symbol: gap.pair}
        items = build_items(
            rows, lambda row: build_okx_trade(row, pairs, Source.BACKFILL, received), lambda row: row.tradeId
        )

        def following(oldest: int) -> Request | None:
            return self._older_than(gap, oldest) if oldest > gap.first_id else None

        return numbered_page(gap, items, following, descending=True, high=int(request.params["after"]) - 1)

    @staticmethod
    def _older_than(gap: Gap, number: int) -> Request:
        params = {"instId": gap.pair.raw_symbol, "type": "1", "after": str(number), "limit": str(_ROWS)}
        return Request("/api/v5/market/history-trades", params)


def _rows(body: bytes, symbol: str) -> list[TradeItem | InvalidItem]:
    try:
        response = RESPONSE.decode(body)
    except DECODE_ERRORS as error:
        ANSWERS.check(body)
        raise MalformedFrame(str(error)) from error
    return read_rows(response.data, ROW, "tradeId", symbol)


def build_okx_trade(
    item: TradeItem, pairs: Mapping[str, Pair], source: Source, received: int
) -> SequencedRecord | InvalidItem:
    """Build the trade of a websocket message or a REST row; `pairs` is by raw symbol.

    An aggregate of several fills is no trade: its id is that of its last fill, which would be stored with the quantity
    of all. Its ids count as missing, so that the fills are fetched.
    """
    pair = pairs.get(item.instId)
    if pair is None:
        return InvalidItem(UNSUBSCRIBED, f"{item.instId[:40]!r} was not subscribed")
    if item.count not in _ONE_FILL:
        return InvalidItem(AGGREGATE, f"trade {item.tradeId[:40]} aggregates {str(item.count)[:40]} fills", pair.symbol)
    number = trade_number(item.tradeId)
    vendor = (("pair", pair.raw_symbol), ("order_source", item.source), ("source", source.value))
    return build_trade(
        "OKX", pair, str(number), millis_text(item.ts), item.px, item.sz, SIDES[item.side], received, vendor,
        ids=(number, number),
    )  # fmt: skip
