"""Rows of a REST page: decoded one by one, so that a bad row costs only itself."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    MALFORMED_ITEM,
    NO_ID,
    Gap,
    InvalidItem,
    MalformedFrame,
    Page,
    Request,
    SequencedRecord,
)
from k2.ingest.exchanges.items import decoded, id_in, number_of

RAW_ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])

_LATE: Final = 10  # one of so many trades may be late

Item = SequencedRecord | InvalidItem


def read_rows(
    raws: Iterable[msgspec.Raw], decoder: msgspec.json.Decoder[Any], id_field: str | int, symbol: str
) -> list[Any]:
    """Return the decoded rows; for a row that cannot be decoded, an `InvalidItem` with its id if that is readable."""
    rows: list[Any] = []
    for raw in raws:
        try:
            rows.append(decoder.decode(raw))
        except DECODE_ERRORS as error:
            rows.append(InvalidItem(MALFORMED_ITEM, str(error)[:200], symbol, id_in(decoded(raw), id_field), len(rows)))
    return rows


def build_items(rows: Iterable[Any], build: Callable[[Any], Item], number: Callable[[Any], object]) -> list[Item]:
    """Build the item of each row. A row that cannot be built is invalid; `number` returns its id as sent."""
    items: list[Item] = []
    for row in rows:
        if isinstance(row, InvalidItem):
            items.append(row)
            continue
        try:
            items.append(build(row))
        except MalformedFrame as error:
            items.append(InvalidItem(MALFORMED_ITEM, str(error)[:200], "", number_of(number(row)), len(items)))
    return items


def ascending(times: Sequence[int]) -> bool:
    """Return whether times ascend, but for late trades: at most a tenth lie before an earlier one, and one always may.

    Rows in no order at all have next to none that do not.
    """
    newest, late = 0, 0
    for time in times:
        late += time < newest
        newest = max(newest, time)
    return late <= max(1, len(times) // _LATE)


def numbered_page(
    gap: Gap,
    items: Sequence[Item],
    next_request: Callable[[int], Request | None],
    *,
    descending: bool = False,
    low: int = 0,
    high: int | None = None,
) -> Page:
    """Return the page of a gap in consecutive ids. `low` and `high` are the lowest and highest id that were requested.

    `next_request` makes the next request from the id of the page that is farthest in the direction of paging. A page
    that is not as requested has none: its cursor would lead anywhere.
    """
    ranges = [_ids(item) for item in items]
    readable = [ids for ids in ranges if ids[1] != NO_ID]
    ascending = readable[::-1] if descending else readable
    in_order = all(before[1] < after[0] for before, after in pairwise(ascending))
    first, last = min((ids[0] for ids in readable), default=NO_ID), max((ids[1] for ids in readable), default=NO_ID)
    as_requested = not readable or (first >= low and (high is None or last <= high))
    farthest = first if descending else last
    return Page(
        [item for item in items if isinstance(item, SequencedRecord) and gap.first_id <= item.last_id <= gap.last_id],
        [
            item
            for item in items
            if isinstance(item, InvalidItem) and (item.last_id == NO_ID or gap.first_id <= item.last_id <= gap.last_id)
        ],
        next_request(farthest) if readable and as_requested else None,
        consistent=in_order and as_requested and len(readable) == len(items),
        oldest=first,
    )


def _ids(item: Item) -> tuple[int, int]:
    return (item.first_id, item.last_id) if isinstance(item, SequencedRecord) else (item.last_id, item.last_id)
