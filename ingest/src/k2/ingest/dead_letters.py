"""What the headers of a dead letter say about the invalid items of its frame. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from k2.ingest.exchanges.base import NO_ID, InvalidItem

MAX_ITEMS: Final = 8192  # bytes of the entries in `k2-items`
MAX_REASON: Final = 200  # characters of each reason there
_MAX_RANGES: Final = 1024  # characters


def reason_of(items: Sequence[InvalidItem]) -> str:
    """Return why a frame is a dead letter: the reason of its first invalid item, and how many more there are."""
    reason = items[0].reason
    return reason if len(items) == 1 else f"{reason}; and {len(items) - 1} more invalid items"


def symbol_of(items: Sequence[InvalidItem]) -> str:
    """Return the symbol of the invalid items, if it is one."""
    symbols = {item.symbol for item in items}
    return symbols.pop() if len(symbols) == 1 else ""


def encode_items(items: Sequence[InvalidItem]) -> bytes:
    """Encode which items of a frame are invalid, and why, as a JSON list: the header `k2-items`.

    Each entry has the item's index in the frame's list, error and reason, and its symbol and id where they could be
    read. What exceeds `MAX_ITEMS` is one last entry, with the ranges of the other indexes and their number.
    """
    entries: list[bytes] = []
    size = 0
    for position, item in enumerate(items):
        entry = msgspec.json.encode(_entry(item))
        size += len(entry)
        if size > MAX_ITEMS:
            rest = items[position:]
            indexes = _ranges(item.index for item in rest)
            entries.append(msgspec.json.encode({"indexes": indexes, "count": len(rest)}))
            break
        entries.append(entry)
    return b"[" + b",".join(entries) + b"]"


def _entry(item: InvalidItem) -> dict[str, object]:
    entry: dict[str, object] = {"index": item.index, "error": item.error, "reason": item.reason[:MAX_REASON]}
    if item.symbol:
        entry["symbol"] = item.symbol
    if item.last_id != NO_ID:
        entry["id"] = item.last_id
    return entry


def _ranges(indexes: Iterable[int]) -> str:
    """Write ascending indexes as inclusive ranges: "3,5-9"; cut off with an ellipsis where they are too many."""
    ranges: list[list[int]] = []
    for index in indexes:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
    return text if len(text) <= _MAX_RANGES else text[:_MAX_RANGES].rpartition(",")[0] + ",..."
