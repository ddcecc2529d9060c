"""Encode records as the live stream sends them: decimals as strings, times as RFC 3339 in UTC."""

from __future__ import annotations

from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from k2.query import times
from k2.schemas.channels import BOOK, QUOTES, TRADES
from k2.schemas.tables.spec import PRICE
from k2.schemas.values import PRECISION, SCALE, format_decimal, from_micros

if TYPE_CHECKING:
    from collections.abc import Callable

    from k2.query.kafka.row_types import Row
    from k2.schemas.channels import Channel

    Convert = Callable[[Any, dict[str, int]], Any]  # of a column's value, with the record's powers of ten

# One record of each channel: the name of its event.
EVENTS: Final = {TRADES: "trade", QUOTES: "quote", BOOK: "book"}

_UNITS: Final = {"price": "price_exponent", "quantity": "quantity_exponent"}
_EXPONENTS: Final = range(-SCALE, PRECISION - SCALE)  # other powers of ten do not fit decimal(38,12)


def encode(channel: Channel, row: Row) -> bytes:
    """Return the JSON of a record."""
    return msgspec.json.encode(fields(channel, row))


def fields(channel: Channel, row: Row) -> dict[str, Any]:
    """Return a record as JSON's values. Integers with a power of ten become decimals, and the powers are left out."""
    record = dict(zip(channel.column_names, row, strict=True))
    exponents = {unit: record.pop(column) for unit, column in _UNITS.items() if column in record}
    for name, convert in _conversions(channel):
        record[name] = convert(record[name], exponents)
    return record


@cache
def _conversions(channel: Channel) -> tuple[tuple[str, Convert], ...]:
    conversions: list[tuple[str, Convert]] = []
    has_exponents = _UNITS["price"] in channel.column_names
    for column in channel.columns:
        unit = column.name.rpartition("_")[2]
        if column.type == "timestamp":
            conversions.append((column.name, lambda micros, _: _time(micros)))
        elif column.type == PRICE:
            conversions.append((column.name, lambda units, _: format_decimal(units)))
        elif column.type.startswith("array<"):
            conversions.append((column.name, _levels))
        elif has_exponents and unit in _UNITS:
            conversions.append((column.name, partial(_scaled, unit)))
    return tuple(conversions)


def _scaled(unit: str, number: int | None, exponents: dict[str, int]) -> str | None:
    return _decimal(number, exponents[unit])


def _levels(levels: list[dict[str, int]], exponents: dict[str, int]) -> list[dict[str, str | None]]:
    return [{unit: _decimal(level[unit], exponents[unit]) for unit in _UNITS} for level in levels]


def _decimal(number: int | None, exponent: int) -> str | None:
    """Return a number times a power of ten; None if it does not fit the decimals of the tables."""
    if number is None or exponent not in _EXPONENTS:
        return None
    return format_decimal(number * 10 ** (exponent + SCALE))


def _time(micros: int | None) -> str | None:
    if micros is None:
        return None
    with suppress(OverflowError):
        return times.to_rfc3339(from_micros(micros))
    return None
