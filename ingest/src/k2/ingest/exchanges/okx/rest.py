"""OKX v5 spot: REST requests and responses."""

from collections.abc import Mapping

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Gap,
    InvalidItem,
    MalformedFrame,
    NewestTradeSnapshot,
    Page,
    Request,
    RestRefused,
    SequencedRecord,
    build_trade,
    millis_text,
    partition,
    positive_id,
)
from k2.ingest.exchanges.okx.messages import RESPONSE, SIDES, TradeItem
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_ROWS = 100
_RATE_LIMITED = frozenset({"50011", "50040", "50013"})
_NO_SUCH_INSTRUMENT = "51001"


class OkxRest(NewestTradeSnapshot):
    """The trade history of OKX v5 spot."""

    _by_name: Mapping[str, Pair]

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return Request("/api/v5/market/trades", {"instId": pair.raw_symbol, "limit": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """Return the id of the newest trade; 0 if there is none."""
        return max((positive_id(row.tradeId) for row in _rows(body)), default=0)

    def history_request(self, gap: Gap) -> Request:
        """Request single fills older than the trade after the gap, newest first."""
        return self._older_than(gap, gap.last_id + 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the gap, and return the next request while ids are left."""
        rows = _rows(body)
        numbers = [positive_id(row.tradeId) for row in rows]
        items = (
            build_okx_trade(row, self._by_name, Source.BACKFILL, received)
            for row, number in zip(rows, numbers, strict=True)
            if gap.first_id <= number <= gap.last_id
        )
        trades, invalid = partition(items)
        oldest = min(numbers, default=0)
        return Page(trades, invalid, self._older_than(gap, oldest) if oldest > gap.first_id else None)

    @staticmethod
    def _older_than(gap: Gap, number: int) -> Request:
        params = {"instId": gap.pair.raw_symbol, "type": "1", "after": str(number), "limit": str(_ROWS)}
        return Request("/api/v5/market/history-trades", params)


def _rows(body: bytes) -> list[TradeItem]:
    try:
        response = RESPONSE.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error
    if response.code != "0":
        text = f"{response.code}: {response.msg}"[:200]
        wait = 2.0 if response.code in _RATE_LIMITED else None
        raise RestRefused(text, retry_after=wait, unknown_symbol=response.code == _NO_SUCH_INSTRUMENT)
    return response.data


def build_okx_trade(
    item: TradeItem, pairs: Mapping[str, Pair], source: Source, received: int
) -> SequencedRecord | InvalidItem:
    """Build the trade of a websocket message or a REST row; `pairs` is by raw symbol."""
    pair = pairs.get(item.instId)
    if pair is None:
        return InvalidItem(UNSUBSCRIBED, f"{item.instId[:40]!r} was not subscribed")
    last, count = positive_id(item.tradeId), positive_id(item.count)
    vendor = (
        ("pair", pair.raw_symbol), ("count", item.count), ("sequence", str(item.seqId)),
        ("order_source", item.source), ("source", source.value),
    )  # fmt: skip
    return build_trade(
        "OKX", pair, str(last), millis_text(item.ts), item.px, item.sz, SIDES[item.side], received, vendor,
        ids=(max(1, last - count + 1), last),
    )  # fmt: skip
