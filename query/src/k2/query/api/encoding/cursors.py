"""Cursors: where the next page begins, in a text that nobody need understand and nobody can make up.

A cursor pins the snapshot and the range of the first page, so that pages never shift while tables grow; it belongs to
one question, and is signed. No clock and no table here.
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
from k2.query.sql.trade_sql import Place

_SIGNATURE: Final = 16
_LONGEST: Final = 2000
WRONG: Final = "the cursor is not one that this question was given; begin again without it, or follow `next` as it is"

Asked = Mapping[str, str | None]


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The page after a place, of a range of one snapshot."""

    snapshot_id: int
    start: datetime | None
    end: datetime | None
    timestamp: datetime
    trade_id: str
    exchange: str
    symbol: str

    @property
    def place(self) -> Place:
        """The trade that the page before it ended with."""
        return Place(self.timestamp, self.trade_id, self.exchange, self.symbol)


def write(cursor: Cursor, asked: Asked, secret: bytes) -> str:
    """The cursor as a text for the address, for whoever asked this."""
    body = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(_signed(body, asked, secret) + body).decode().rstrip("=")


def read(text: str, asked: Asked, secret: bytes) -> Cursor:
    """The cursor in a text. Raises `BadQuery` unless `write` made it for the same question."""
    try:
        if len(text) > _LONGEST:
            raise BadQuery(WRONG)
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        signature, body = raw[:_SIGNATURE], raw[_SIGNATURE:]
        if not hmac.compare_digest(signature, _signed(body, asked, secret)):
            raise BadQuery(WRONG)
        return msgspec.msgpack.decode(body, type=Cursor)
    except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError) as error:
        raise BadQuery(WRONG) from error


def _signed(body: bytes, asked: Asked, secret: bytes) -> bytes:
    question = msgspec.json.encode(sorted((name, value) for name, value in asked.items() if value is not None))
    return hmac.digest(secret, hashlib.sha256(question).digest() + body, "sha256")[:_SIGNATURE]
