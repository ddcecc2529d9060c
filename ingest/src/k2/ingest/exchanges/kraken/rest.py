"""Kraken spot: REST requests and responses."""

from collections.abc import Iterable
from dataclasses import replace

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
    fraction,
    positive,
    trade_number,
)
from k2.ingest.exchanges.kraken.answers import ANSWERS
from k2.ingest.exchanges.kraken.messages import ORDER_TYPES, RESPONSE, ROW, SIDES, RestRow
from k2.ingest.exchanges.rows import RAW_ROWS, ascending, build_items, numbered_page, read_rows
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_ROWS = 1000
_OWN_NAMES = {"BTC": "XBT", "DOGE": "XDG"}


class KrakenRest(NewestTradeSnapshot):
    """The trade history of Kraken spot."""

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return Request("/0/public/Trades", {"pair": rest_name(pair), "count": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """Return the id of the newest trade, or `NO_ID`. Raises like `parse_page`."""
        rows, _ = rows_of(body)
        return max((trade_number(row.number) for row in rows if isinstance(row, RestRow)), default=NO_ID)

    def history_request(self, gap: Gap) -> Request:
        """Request trades since the one before the gap, 1,000 at a time; the cursor is a time in nanoseconds."""
        return since(gap.pair, gap.since * 1000 - 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the gap, and return the next request while ids are left."""
        rows, cursor = rows_of(body, gap.pair)
        items = build_items(rows, lambda row: _backfilled(row, gap.pair, received), lambda row: row.number)

        def following(newest: int) -> Request | None:
            return after(request, gap.pair, cursor) if newest < gap.last_id else None

        page = numbered_page(gap, items, following)
        return page if later_than(request, rows) else replace(page, next_request=None, consistent=False)


def _backfilled(row: RestRow, pair: Pair, received: int) -> SequencedRecord | InvalidItem:
    number = trade_number(row.number)
    vendor = (
        ("pair", pair.raw_symbol), ("order_type", ORDER_TYPES.get(row.order_type, row.order_type)),
        ("misc", row.misc), ("source", Source.BACKFILL.value),
    )  # fmt: skip
    return build_trade(
        "KRAKEN", pair, str(number), fraction(f"{row.time:f}"), row.price, row.volume, SIDES[row.side], received,
        vendor, ids=(number, number),
    )  # fmt: skip


def since(pair: Pair, nanoseconds: int) -> Request:
    """Return the request for trades after a time."""
    return Request("/0/public/Trades", {"pair": rest_name(pair), "since": str(nanoseconds), "count": str(_ROWS)})


def after(request: Request, pair: Pair, cursor: int) -> Request | None:
    """Return the request after `cursor`, overlapping by the trades of the last moment; None at the end."""
    return since(pair, cursor - 1) if cursor - 1 > int(request.params["since"]) else None


def rest_name(pair: Pair) -> str:
    """Return a pair in the spelling of Kraken's REST API: XBTUSD."""
    return "".join(own_assets(pair))


def own_assets(pair: Pair) -> tuple[str, ...]:
    """Return Kraken's own names of a pair's assets, in its case: XBT and USD, AAPLx and USD."""
    return tuple(_OWN_NAMES.get(name, name) for name in pair.raw_symbol.split("/"))


def later_than(request: Request, rows: Iterable[RestRow | InvalidItem]) -> bool:
    """Return whether rows are of the time that was requested, but for late trades among them.

    Their times are rounded to 100 nanoseconds.
    """
    cursor = int(request.params["since"])
    return ascending([cursor - 999, *(int(row.time * 1_000_000_000) for row in rows if isinstance(row, RestRow))])


def rows_of(body: bytes, pair: Pair | None = None) -> tuple[list[RestRow | InvalidItem], int]:
    """Return the rows of a response and the next cursor. The key of the rows differs from the requested name.

    Raises `MalformedFrame` if that key does not have both names of `pair`.
    """
    try:
        response = RESPONSE.decode(body)
        raws = [(key, RAW_ROWS.decode(raw)) for key, raw in response.result.items() if key != "last"]
        if not raws or any(not error.startswith("W") for error in response.error):
            ANSWERS.check(body)
        cursor = positive(msgspec.json.decode(response.result.get("last", msgspec.Raw(b"0")), strict=False), "cursor")
    except DECODE_ERRORS as error:
        ANSWERS.check(body)
        raise MalformedFrame(str(error)) from error
    if len(raws) != 1:
        raise MalformedFrame(f"rows of {len(raws)} pairs instead of one")
    ((key, rows),) = raws
    if pair and not all(name in key for name in own_assets(pair)):
        raise MalformedFrame(f"rows of {key[:40]!r} instead of {rest_name(pair)}")
    return read_rows(rows, ROW, 6, pair.symbol if pair else ""), cursor
