"""The items of a frame, each decoded on its own: one that cannot be trusted never costs its neighbours.

A frame is decoded as a whole first, since that is fast. Only where that fails is its list read as raw JSON, and each
item of it separately. Pure: no sockets and no clock.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    INEXACT,
    MALFORMED_ITEM,
    NO_ID,
    InvalidItem,
    MalformedFrame,
    SequencedRecord,
    trade_number,
)
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import InexactValue

Item = TypeVar("Item")
Built = SequencedRecord | InvalidItem

# Where an item has its symbol or id: the key of an object, the position in an array, or nowhere.
Place = str | int | None

_MAX_REASON: Final = 200  # characters
_UNREADABLE: Final = (*DECODE_ERRORS, ValueError)  # msgspec raises ValueError for integers of thousands of digits


def rejected(error: Exception, pair: Pair, index: int = 0) -> InvalidItem:
    """Return the item of a pair whose numbers do not fit exactly, or that is invalid otherwise."""
    kind = INEXACT if isinstance(error, InexactValue) else MALFORMED_ITEM
    return InvalidItem(kind, str(error)[:_MAX_REASON], pair.symbol, index=index)


def numbered(built: list[Built]) -> list[Built]:
    """Return what was built of the items of a list, with the index of each invalid one."""
    if InvalidItem not in map(type, built):
        return built
    return [
        msgspec.structs.replace(item, index=index) if isinstance(item, InvalidItem) else item
        for index, item in enumerate(built)
    ]


def decode_items(
    raw_items: Sequence[msgspec.Raw],
    decoder: msgspec.json.Decoder[Item],
    build: Callable[[Item], Built],
    pairs: Mapping[str, Pair],
    symbol_at: Place = None,
    id_at: Place = None,
) -> list[Built]:
    """Decode and build each item on its own; one that is invalid becomes an `InvalidItem`.

    `pairs` is by raw symbol; `symbol_at` and `id_at` are where an item has its symbol and id. They are read from an
    invalid item too, where it has them.
    """
    built: list[Built] = []
    for raw in raw_items:
        try:
            built.append(build(decoder.decode(raw)))
        except (*DECODE_ERRORS, MalformedFrame) as error:
            built.append(invalid_item(decoded(raw), error, pairs, symbol_at, id_at))
    return numbered(built)


def invalid_item(
    item: object, error: Exception, pairs: Mapping[str, Pair], symbol_at: Place = None, id_at: Place = None
) -> InvalidItem:
    """Return the `InvalidItem` of a decoded JSON value that is no trade, with what can be read of it."""
    pair = pairs.get(symbol) if isinstance(symbol := _value_at(item, symbol_at), str) else None
    number = NO_ID if pair is None else id_in(item, id_at)
    return InvalidItem(MALFORMED_ITEM, str(error)[:_MAX_REASON], pair.symbol if pair else "", number)


def id_in(item: object, place: Place) -> int:
    """Return the id that a decoded JSON value has at a place; `NO_ID` if it cannot be read."""
    return number_of(_value_at(item, place))


def decoded(raw: msgspec.Raw) -> object:
    """Return raw JSON as Python values; None if it cannot be decoded."""
    try:
        return msgspec.json.decode(raw)
    except _UNREADABLE:
        return None


def number_of(value: object) -> int:
    """Return a trade id as an exchange sent it, as a number; `NO_ID` if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return NO_ID
    try:
        return trade_number(value)
    except ValueError:  # also of an integer with too many digits to be printed
        return NO_ID


def _value_at(item: object, place: Place) -> Any:
    if isinstance(item, dict) and isinstance(place, str):
        return item.get(place)
    if isinstance(item, list) and isinstance(place, int) and place < len(item):
        return item[place]
    return None
