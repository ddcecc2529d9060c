"""Bybit v5 spot: REST requests and responses."""

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    NO_ID,
    Gap,
    InvalidItem,
    MalformedFrame,
    Newest,
    NewestTradeSnapshot,
    Page,
    Request,
    RestRefused,
    SequencedRecord,
    build_trade,
    millis_text,
    partition,
)
from k2.ingest.exchanges.bybit.messages import RESPONSE, SIDES, RestTrade
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_ROWS = 60
_RATE_LIMITED = 10006
_BAD_SYMBOL = 10001


class BybitRest(NewestTradeSnapshot):
    """The trade history of Bybit v5 spot."""

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return self._recent(pair, 1)

    def parse_newest_id(self, body: bytes) -> int:
        """Return `NO_ID`: ids cannot be compared."""
        _rows(body)
        return NO_ID

    def parse_newest(self, body: bytes) -> Newest:
        """Return the newest trade by its time. Raises like `parse_page`."""
        return Newest(time=max((millis_text(row.time) for row in _rows(body)), default=0))

    def history_request(self, gap: Gap) -> Request:
        """Request the newest 60 trades, the whole available history."""
        return self._recent(gap.pair, _ROWS)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the window; it overlaps if the trade before it is among the newest 60."""
        rows = _rows(body)
        items = (
            self._backfilled(gap, row, received)
            for row in rows
            if gap.since <= millis_text(row.time) <= gap.until and row.execId != gap.anchor
        )
        trades, invalid = partition(items)
        overlaps = any(row.execId == gap.anchor or millis_text(row.time) < gap.since for row in rows)
        return Page(trades, invalid, overlaps=overlaps)

    @staticmethod
    def _backfilled(gap: Gap, row: RestTrade, received: int) -> SequencedRecord | InvalidItem:
        vendor = (("pair", gap.pair.raw_symbol), ("source", Source.BACKFILL.value))
        return build_trade(
            "BYBIT", gap.pair, check_trade_id(row.execId), millis_text(row.time), row.price, row.size, SIDES[row.side],
            received, vendor,
        )  # fmt: skip

    @staticmethod
    def _recent(pair: Pair, limit: int) -> Request:
        params = {"category": "spot", "symbol": pair.raw_symbol, "limit": str(limit)}
        return Request("/v5/market/recent-trade", params)


def _rows(body: bytes) -> list[RestTrade]:
    try:
        response = RESPONSE.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error
    if response.retCode != 0:
        wait = 5.0 if response.retCode == _RATE_LIMITED else None
        text = f"{response.retCode}: {response.retMsg}"[:200]
        raise RestRefused(text, retry_after=wait, unknown_symbol=response.retCode == _BAD_SYMBOL)
    return response.result.rows


def check_trade_id(text: str) -> str:
    """Return a trade id. Raises `MalformedFrame` unless it is printable ASCII of at most 64 characters."""
    if not (0 < len(text) <= 64 and text.isascii() and text.isprintable()):
        raise MalformedFrame(f"trade id {text[:40]!r} is not printable ASCII of at most 64 characters")
    return text
