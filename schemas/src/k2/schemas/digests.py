"""Digests of rows: what the audit compares, and what anybody can compute again (docs/adr/0024).

The digest of some rows is their number and the sum, modulo 2**256, of the SHA-256 values of their canonical bytes. It
depends on no order, and the digests of two sets of rows add up to that of both. `k2.jobs.audit.digests` computes the
same values in Spark.

The canonical bytes of a row are a domain, a line feed, and for each column that is not null `name=length:bytes`, where
`length` is the number of bytes in decimal digits. A column that is null adds nothing, so a column that is added to a
table later changes no digest of older rows. Bytes of a value:

- text: UTF-8; binary: as it is; a whole number: decimal digits
- a decimal: digits without an exponent and without zeros or a point at the end: 61837.63
- a time: UTC microseconds since 1970; a date: days since 1970
- a list: for each element `length:bytes`, or `-` for null
- a map with texts as keys, or a struct: for each entry, by the order of the keys' bytes, `length:key` and the value as
  an element of a list
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from k2.schemas.values import to_micros

if TYPE_CHECKING:
    from k2.schemas.channels import Channel

BITS: Final = 256
MODULUS: Final = 1 << BITS

# Domains: rows of two kinds never have the same bytes. The number changes with the canonical form.
BRONZE: Final = "k2.bronze.1"
SILVER: Final = "k2.silver.1"
DEAD_LETTER: Final = "k2.dead-letter.1"
GOLD: Final = "k2.gold.1"
RECORD: Final = "k2.record.1"  # what Silver and Gold have in common
LEAF: Final = "k2.leaf.1"
BAR: Final = "k2.bar.1"
VERDICT: Final = "k2.verdict.1"  # rows of audit_completeness

_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Digest:
    """The number of some rows, and the sum of their hashes modulo 2**256."""

    rows: int = 0
    sum: int = 0

    def __add__(self, other: "Digest") -> "Digest":
        """Return the digest of the rows of both."""
        return Digest(self.rows + other.rows, (self.sum + other.sum) % MODULUS)

    def __sub__(self, other: "Digest") -> "Digest":
        """Return the digest of these rows without those of `other`."""
        return Digest(self.rows - other.rows, (self.sum - other.sum) % MODULUS)

    def __str__(self) -> str:
        """Return `rows:sum`, the sum as 64 hexadecimal digits."""
        return f"{self.rows}:{self.sum:064x}"

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Return the digest of a text that `str` made. Raises ValueError for any other text."""
        rows, _, digits = text.partition(":")
        digest = cls(int(rows), int(digits, 16))
        if str(digest) != text:
            raise ValueError(f"{text[:100]!r} is not a digest, which is a number, a colon and 64 hexadecimal digits")
        return digest


def digest(domain: str, rows: Iterable[Mapping[str, Any]]) -> Digest:
    """Return the digest of rows, given as values by column. Raises TypeError for values of other types."""
    total = Digest()
    for row in rows:
        total += Digest(1, int.from_bytes(row_hash(domain, row), "big"))
    return total


def row_hash(domain: str, row: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of a row's canonical bytes. Raises TypeError for values of other types."""
    return hashlib.sha256(canonical_bytes(domain, row)).digest()


def canonical_bytes(domain: str, row: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a row, its columns in their order. Raises TypeError for values of other types."""
    fields = (name.encode() + b"=" + _sized(_bytes(value)) for name, value in row.items() if value is not None)
    return domain.encode() + b"\n" + b"".join(fields)


def _bytes(value: Any) -> bytes:
    match value:
        case bytes() | bytearray():
            return bytes(value)
        case Mapping():
            return b"".join(_sized(key.encode()) + _sized_or_null(value[key]) for key in sorted(value))
        case list() | tuple():
            return b"".join(map(_sized_or_null, value))
        case _:
            return _text(value).encode()


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case int() if not isinstance(value, bool):
            return str(value)
        case Decimal():
            return _plain(value)
        case datetime():
            return str(to_micros(value))
        case date():
            return str((value - _EPOCH).days)
    raise TypeError(f"{type(value).__name__} has no canonical bytes")


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _sized(content: bytes) -> bytes:
    return str(len(content)).encode() + b":" + content


def _sized_or_null(value: Any) -> bytes:
    return b"-" if value is None else _sized(_bytes(value))


def leaf_columns(channel: "Channel") -> tuple[str, ...]:
    """Return the columns of a canonical leaf: what the exchange itself says about a record, which others can know too.

    For trades: exchange, symbol, trade_id, timestamp, price, quantity, side.
    """
    own_id = (channel.id_column,) if channel.id_column else channel.identity
    return tuple(dict.fromkeys(("exchange", "symbol", *own_id, *channel.time_columns, *channel.content)))


def bronze_columns() -> tuple[str, ...]:
    """Return the columns of Bronze without processing times."""
    return "value", "key", "topic", "partition", "offset", "kafka_timestamp"


def silver_columns(channel: "Channel") -> tuple[str, ...]:
    """Return the columns of Silver without processing times."""
    return *channel.column_names, "schema_id", "topic", "partition", "offset"


def dead_letter_columns() -> tuple[str, ...]:
    """Return the columns of dead letters without processing times."""
    return (
        "value", "exchange", "channel", "topic", "partition", "offset", "schema_id", "error_category", "error_message",
    )  # fmt: skip


def gold_columns(channel: "Channel") -> tuple[str, ...]:
    """Return the columns of Gold without processing times."""
    return *channel.column_names, "exchange_date", "exchange_hour"
