"""The id to resume from is one that the stream issued, or it is rejected."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.query.errors import BadQuery
from k2.query.live.resume import MAX_LENGTH, Cursor
from k2.schemas.channels import TRADES

OFFSETS = {("market.crypto.trades.binance", 3): 12, ("market.crypto.trades.binance", 4): 2**40, ("own", 0): 7}


def test_a_cursor_round_trips():
    cursor = Cursor(TRADES, OFFSETS)
    assert Cursor.decode(cursor.encode(), TRADES) == cursor
    assert len(cursor.encode()) < 80


@given(st.text(max_size=60))
def test_any_text_is_decoded_or_rejected(text: str):
    try:
        cursor = Cursor.decode(text, TRADES)
    except BadQuery:
        return
    assert all(offset >= 0 for offset in cursor.offsets.values())


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_modified_cursor_is_rejected_or_names_existing_offsets(place: int, change: int):
    packed = bytearray(base64.urlsafe_b64decode(Cursor(TRADES, OFFSETS).encode() + "=="))
    packed[place % len(packed)] ^= change
    try:
        cursor = Cursor.decode(base64.urlsafe_b64encode(packed).decode(), TRADES)
        cursor.validate({place: offset - 1 for place, offset in OFFSETS.items()})
    except BadQuery:
        return
    assert all(place in OFFSETS and offset < OFFSETS[place] for place, offset in cursor.offsets.items())


@pytest.mark.parametrize("payload", [(2, {}), (1, -1), (1, {"own": {0: -1}}), (1, {"own": {-1: 0}}), (1,), (1, {}, 0)])
def test_an_invalid_cursor_is_rejected(payload: tuple):
    with pytest.raises(BadQuery):
        Cursor.decode(base64.urlsafe_b64encode(msgspec.msgpack.encode(payload)).decode(), TRADES)


def test_a_cursor_that_is_too_long_is_rejected_before_decoding():
    with pytest.raises(BadQuery):
        Cursor.decode(Cursor(TRADES, {("own", partition): 1 for partition in range(MAX_LENGTH)}).encode(), TRADES)


@pytest.mark.parametrize("ends", [{}, {("own", 0): 6}])
def test_an_offset_beyond_the_end_is_rejected(ends: dict):
    with pytest.raises(BadQuery):
        Cursor(TRADES, {("own", 0): 7}).validate(ends)
    Cursor(TRADES, {("own", 0): 7}).validate({("own", 0): 7})
