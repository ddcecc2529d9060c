"""The five bytes before every Avro body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.schemas.codecs import wire


def test_the_header_is_a_zero_byte_and_the_id_big_endian():
    assert wire.header(0x01020304) == b"\x00\x01\x02\x03\x04"


@given(st.integers(0, 2**32 - 1), st.binary(max_size=50))
def test_what_goes_behind_a_header_comes_back_with_its_id(schema_id, body):
    assert wire.split(wire.header(schema_id) + body) == (schema_id, body)


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x01"])
def test_fewer_bytes_than_a_header_are_refused_with_their_number(value):
    with pytest.raises(wire.MalformedHeader, match=f"^{len(value)} bytes are too few"):
        wire.split(value)


def test_a_value_without_the_magic_byte_is_refused_with_the_byte_found():
    with pytest.raises(wire.MalformedHeader, match="first byte is 0x7b"):
        wire.split(b'{"a":1}')


@given(st.binary(max_size=20))
def test_any_bytes_are_split_or_refused_as_declared(value):
    try:
        schema_id, body = wire.split(value)
    except wire.MalformedHeader:
        assert len(value) < wire.HEADER_SIZE or value[0] != 0
    else:
        assert wire.header(schema_id) + body == value
