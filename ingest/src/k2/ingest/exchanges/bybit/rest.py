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
from k2.ingest.exchanges.rows import ascending, build_items, read_rows
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
        """Parse the trades of the window: those that are newer than the trade before it, which proves the overlap.

        Newer is what stands before it, whatever its time. Where that trade is not among the rows, all may be missing.
        """
        rows = _rows(body, gap.pair.symbol)
        for row in rows:
            if isinstance(row, RestTrade) and row.symbol not in {"", gap.pair.raw_symbol}:
                raise MalformedFrame(f"rows of {row.symbol[:40]!r} instead of {gap.pair.raw_symbol}")
        items = build_items(rows, lambda row: self._backfilled(gap, row, received), lambda _: NO_ID)
        records, invalid = partition(items)
        ids = [item.record.record_id for item in records]
        times = [item.record.timestamp for item in records]
        anchored, inside = gap.anchor in ids, records
        if anchored:
            inside = records[: ids.index(gap.anchor)]
        elif not gap.anchor:  # only the time of the last trade is known
            anchored = min(times, default=gap.since) < gap.since
            inside = [item for item in records if item.record.timestamp >= gap.since]
        return Page(
            inside, invalid, overlaps=anchored, full=len(rows) >= ROWS, row_ids=ids,
            reaches=any(item.record.timestamp // 1000 >= gap.until // 1000 for item in inside),  # it has milliseconds
            consistent=not invalid and ascending(times[::-1]),
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
