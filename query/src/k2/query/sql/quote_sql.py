"""List quotes with their prices and quantities as decimals."""

from __future__ import annotations

from typing import Final

from k2.query.sql import exact
from k2.query.sql.record_list import RecordList
from k2.schemas.channels import QUOTES

_EXPONENTS: Final = {"price_exponent", "quantity_exponent"}


def _decimal(name: str) -> str:
    kind = name.rpartition("_")[2]
    return exact.scaled(name, f"{kind}_exponent") if kind in {"price", "quantity"} else f'"{name}"'


# Many quotes share a time; a connection counts its own.
QUOTE_LIST: Final = RecordList(
    QUOTES,
    "quote",
    {name: _decimal(name) for name in QUOTES.column_names if name not in _EXPONENTS},
    position=("exchange", "symbol", "connection", "ordinal"),
)
