"""Page cursors: opaque, signed positions after which the next page begins.

A cursor pins the snapshot and the time range of the first page, so that pages never shift while tables grow; that of
a hybrid query has no snapshot. It is valid for one query only. No clock and no table here.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from k2.query.errors import BadQuery
from k2.query.sql.record_list import Position

_SIGNATURE_BYTES: Final = 16
_MAX_LENGTH: Final = 2000
INVALID: Final = "the cursor does not belong to this query; start without it, or follow `next` unchanged"

QueryParameters = Mapping[str, str | None]


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The position after the last row of a page, with the snapshot and time range of the query."""

    snapshot_id: int | None  # None: the present, with Kafka's records
    start: datetime | None
    end: datetime | None
    time: datetime
    values: tuple[str | int, ...]

    @property
    def place(self) -> Position:
        """The last record of the previous page."""
        return Position(self.time, self.values)


def encode(cursor: Cursor, query: QueryParameters, secret: bytes) -> str:
    """Return the cursor as URL-safe text, signed for this query."""
    body = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(_sign(body, query, secret) + body).decode().rstrip("=")


def decode(text: str, query: QueryParameters, secret: bytes) -> Cursor:
    """Parse a cursor. Raises `BadQuery` unless `encode` made it for the same query and secret."""
    try:
        if len(text) > _MAX_LENGTH:
            raise BadQuery(INVALID)
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, _sign(body, query, secret)):
            raise BadQuery(INVALID)
        return msgspec.msgpack.decode(body, type=Cursor)
    except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError) as error:
        raise BadQuery(INVALID) from error


def _sign(body: bytes, query: QueryParameters, secret: bytes) -> bytes:
    canonical = msgspec.json.encode(sorted((name, value) for name, value in query.items() if value is not None))
    return hmac.digest(secret, hashlib.sha256(canonical).digest() + body, "sha256")[:_SIGNATURE_BYTES]
