"""The id to resume from is what this stream gave, or it is refused."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.query.errors import BadQuery
from k2.query.live.resume import LONGEST, Cursor

PLACES = {("market.crypto.trades.binance", 3): 12, ("market.crypto.trades.binance", 4): 2**40, ("own", 0): 7}


def test_what_is_given_back_is_what_was_given():
    cursor = Cursor(PLACES)
    assert Cursor.read(cursor.text()) == cursor
    assert len(cursor.text()) < 80


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str):
    try:
        found = Cursor.read(text)
    except BadQuery:
        return
    assert all(offset >= 0 for offset in found.offsets.values())


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_changed_id_is_refused_or_names_places_that_are_looked_at(place: int, change: int):
    packed = bytearray(base64.urlsafe_b64decode(Cursor(PLACES).text() + "=="))
    packed[place % len(packed)] ^= change
    try:
        found = Cursor.read(base64.urlsafe_b64encode(packed).decode())
        found.refuse_unless({place: offset - 1 for place, offset in PLACES.items()})
    except BadQuery:
        return
    assert all(place in PLACES and offset < PLACES[place] for place, offset in found.offsets.items())


@pytest.mark.parametrize("told", [(2, {}), (1, -1), (1, {"own": {0: -1}}), (1, {"own": {-1: 0}}), (1,), (1, {}, 0)])
def test_what_no_stream_gives_is_refused(told: tuple):
    with pytest.raises(BadQuery):
        Cursor.read(base64.urlsafe_b64encode(msgspec.msgpack.encode(told)).decode())


def test_an_id_of_any_length_is_refused_before_it_is_read():
    with pytest.raises(BadQuery):
        Cursor.read(Cursor({("own", partition): 1 for partition in range(LONGEST)}).text())


@pytest.mark.parametrize("ends", [{}, {("own", 0): 6}])
def test_a_place_that_is_not_there_yet_is_refused(ends: dict):
    with pytest.raises(BadQuery):
        Cursor({("own", 0): 7}).refuse_unless(ends)
    Cursor({("own", 0): 7}).refuse_unless({("own", 0): 7})
