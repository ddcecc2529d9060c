"""Kraken spot: REST requests and responses."""

from collections.abc import Iterator

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    Gap,
    InvalidItem,
    MalformedFrame,
    NewestTradeSnapshot,
    Page,
    Request,
    RestRefused,
    SequencedRecord,
    build_trade,
    fraction,
    partition,
    positive_id,
)
from k2.ingest.exchanges.kraken.messages import ORDER_TYPES, RESPONSE, ROWS, SIDES, RestRow
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_ROWS = 1000
_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}


class KrakenRest(NewestTradeSnapshot):
    """The trade history of Kraken spot."""

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return Request("/0/public/Trades", {"pair": rest_name(pair), "count": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """Return the id of the newest trade; 0 if there is none."""
        return max((row[6] for row in rows_of(body)[0]), default=0)

    def history_request(self, gap: Gap) -> Request:
        """Request trades since the one before the gap, 1,000 at a time; the cursor is a time in nanoseconds."""
        return since(gap.pair, gap.since * 1000 - 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the gap, and return the next request while ids are left."""
        rows, cursor = rows_of(body)
        trades, invalid = partition(_backfilled(rows, gap, received))
        newest = rows[-1][6] if rows else gap.last_id
        return Page(trades, invalid, after(request, gap.pair, cursor) if newest < gap.last_id else None)


def _backfilled(rows: list[RestRow], gap: Gap, received: int) -> Iterator[SequencedRecord | InvalidItem]:
    for price, volume, time, side, order_type, misc, number in rows:
        if gap.first_id <= number <= gap.last_id:
            vendor = (
                ("pair", gap.pair.raw_symbol), ("order_type", ORDER_TYPES.get(order_type, order_type)),
                ("misc", misc), ("source", Source.BACKFILL.value),
            )  # fmt: skip
            yield build_trade(
                "KRAKEN", gap.pair, str(number), fraction(f"{time:f}"), price, volume, SIDES[side], received, vendor,
                ids=(number, number),
            )  # fmt: skip


def since(pair: Pair, nanoseconds: int) -> Request:
    """Return the request for trades after a time."""
    return Request("/0/public/Trades", {"pair": rest_name(pair), "since": str(nanoseconds), "count": str(_ROWS)})


def after(request: Request, pair: Pair, cursor: int) -> Request | None:
    """Return the request after `cursor`, overlapping by the trades of the last moment; None at the end."""
    return since(pair, cursor - 1) if cursor - 1 > int(request.params["since"]) else None


def rest_name(pair: Pair) -> str:
    """Return a pair in the spelling of Kraken's REST API: XBTUSD."""
    return _REST_NAMES.get(pair.base, pair.base) + _REST_NAMES.get(pair.quote, pair.quote)


def rows_of(body: bytes) -> tuple[list[RestRow], int]:
    """Return the rows of a response and the next cursor. The key of the rows differs from the requested name."""
    try:
        response = RESPONSE.decode(body)
        if response.error:
            raise _refusal(response.error)
        rows = [ROWS.decode(raw) for key, raw in response.result.items() if key != "last"]
        cursor = positive_id(msgspec.json.decode(response.result.get("last", msgspec.Raw(b"0")), strict=False))
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error
    return (rows[0] if rows else []), cursor


def _refusal(errors: list[str]) -> RestRefused:
    text = "; ".join(errors)[:200]
    if "Rate limit" in text or "Too many requests" in text:
        return RestRefused(text, retry_after=5.0)
    if "Service" in text:  # EService:Unavailable, EService:Busy
        return RestRefused(text, retry_after=10.0)
    return RestRefused(text, unknown_symbol="Unknown asset pair" in text)
