"""Views of the tables whose prices and quantities are integers with a power of ten: exact decimals instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from k2.query.sql import exact
from k2.query.sql.quote_sql import QUOTE_LIST
from k2.query.sql.quoting import quote_identifier
from k2.schemas.channels import BOOK, QUOTES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from k2.schemas.channels import Channel


@dataclass(frozen=True, slots=True)
class View:
    """A view of one table.

    Args:
        name: Its name in statements.
        table: The name of the table.
        columns: Its columns, and the SQL of each over those of the table.

    """

    name: str
    table: str
    columns: Mapping[str, str]

    @property
    def definition(self) -> str:
        """The statement that creates it."""
        columns = ", ".join(f"{sql} AS {quote_identifier(name)}" for name, sql in self.columns.items())
        return f"CREATE TEMP VIEW {self.name} AS SELECT {columns} FROM {self.table}"  # noqa: S608 - K2's own names


def existing(tables: Collection[str]) -> dict[str, View]:
    """Return the views of the tables that exist, by name."""
    return {view.name: view for view in _VIEWS if view.table in tables}


def _levels(name: str) -> str:
    price, quantity = exact.scaled("level.price", "price_exponent"), exact.scaled("level.quantity", "quantity_exponent")
    return f"list_transform({name}, lambda level: {{'price': {price}, 'quantity': {quantity}}})"


def _view(channel: Channel, columns: Mapping[str, str]) -> View:
    """Return the view of a channel's records: its columns, the time that orders them, and Gold's own columns."""
    time = {"time": f"coalesce({', '.join(channel.time_columns)})"}
    of_gold = [name for name in channel.gold.column_names if name not in channel.column_names]
    return View(channel.name, channel.gold.name, {**columns, **time, **{name: f'"{name}"' for name in of_gold}})


_BOOK_COLUMNS: Final = {
    name: _levels(name) if name in {"bids", "asks"} else f'"{name}"'
    for name in BOOK.column_names
    if name not in {"price_exponent", "quantity_exponent"}
}
_VIEWS: Final = (_view(QUOTES, QUOTE_LIST.columns), _view(BOOK, _BOOK_COLUMNS))
