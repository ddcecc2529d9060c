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
    SequencedRecord,
    build_trade,
    millis_text,
    partition,
)
from k2.ingest.exchanges.bybit.answers import ANSWERS, ROWS
from k2.ingest.exchanges.bybit.messages import RESPONSE, ROW, SIDES, RestTrade
from k2.ingest.exchanges.rows import build_items, read_rows
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source


class BybitRest(NewestTradeSnapshot):
    """The trade history of Bybit v5 spot."""

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return self._recent(pair, 1)

    def parse_newest_id(self, body: bytes) -> int:
        """Return `NO_ID`: ids cannot be compared."""
        _rows(body, "")
        return NO_ID

    def parse_newest(self, body: bytes) -> Newest:
        """Return the newest trade by its time. Raises like `parse_page`."""
        rows = [row for row in _rows(body, "") if isinstance(row, RestTrade)]
        return Newest(time=max((millis_text(row.time) for row in rows), default=0))

    def history_request(self, gap: Gap) -> Request:
        """Request the newest 60 trades, the whole available history."""
        return self._recent(gap.pair, ROWS)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the window; it overlaps if the trade before it is among the newest 60."""
        rows = _rows(body, gap.pair.symbol)
        for row in rows:
            if isinstance(row, RestTrade) and row.symbol not in {"", gap.pair.raw_symbol}:
                raise MalformedFrame(f"rows of {row.symbol[:40]!r} instead of {gap.pair.raw_symbol}")
        items = build_items(rows, lambda row: self._backfilled(gap, row, received), lambda _: NO_ID)
        records, invalid = partition(items)
        inside = [
            item
            for item in records
            if gap.since <= item.record.timestamp <= gap.until and item.record.record_id != gap.anchor
        ]
        times = [item.record.timestamp for item in records]
        overlaps = any(item.record.record_id == gap.anchor or item.record.timestamp < gap.since for item in records)
        reaches = max(times, default=0) // 1000 >= gap.until // 1000  # its times are in milliseconds
        return Page(
            inside, invalid, overlaps=overlaps, reaches=reaches, full=len(rows) >= ROWS,
            consistent=not invalid and times == sorted(times, reverse=True),
        )  # fmt: skip

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


def _rows(body: bytes, symbol: str) -> list[RestTrade | InvalidItem]:
    try:
        response = RESPONSE.decode(body)
    except DECODE_ERRORS as error:
        ANSWERS.check(body)
        raise MalformedFrame(str(error)) from error
    return read_rows(response.result.rows, ROW, "", symbol)


def check_trade_id(text: str) -> str:
    """Return a trade id. Raises `MalformedFrame` unless it is printable ASCII of at most 64 characters."""
    if not (0 < len(text) <= 64 and text.isascii() and text.isprintable()):
        raise MalformedFrame(f"trade id {text[:40]!r} is not printable ASCII of at most 64 characters")
    return text
