"""Give a result types that Arrow carries without loss."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from k2.query.sql.quoting import quote_identifier

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

# DuckDB exports them as times without their zone, and as bytes of its own layout.
_AS_TEXT: Final = re.compile(r"(?:TIME WITH TIME ZONE|BIT|BIGNUM|VARIANT)(?P<lists>(?:\[\d*\])*)")
_WIDE: Final = re.compile(r"U?HUGEINT")  # up to 39 digits, exported as decimals of 38


class Unrepresentable(Exception):
    """A value of the result does not fit its Arrow type."""


def carried(relation: DuckDBPyRelation) -> DuckDBPyRelation:
    """Cast the columns that Arrow would carry with a loss to texts."""
    types = [str(kind) for kind in relation.types]
    if not any(map(_AS_TEXT.fullmatch, types)):
        return relation
    columns = []
    for place, (name, kind) in enumerate(zip(relation.columns, types, strict=True), 1):
        text = _AS_TEXT.fullmatch(kind)
        value = f"CAST(#{place} AS VARCHAR{text['lists']})" if text else f"#{place}"
        columns.append(f"{value} AS {quote_identifier(name)}")
    return relation.project(", ".join(columns))


def wide_columns(relation: DuckDBPyRelation) -> list[int]:
    """Return the places of the columns with integers that may have more digits than Arrow's decimals."""
    return [place for place, kind in enumerate(relation.types) if _WIDE.search(str(kind))]


def check_wide(batch: pa.RecordBatch, places: list[int]) -> None:
    """Raise `Unrepresentable` for an integer that has too many digits."""
    import pyarrow as pa

    for place in places:
        try:
            batch.column(place).validate(full=True)
        except pa.ArrowInvalid:
            name = batch.schema.field(place).name[:100]
            raise Unrepresentable(
                f'an integer in the column "{name}" has 39 digits, and results carry 38; cast it to VARCHAR'
            ) from None
