"""Confluent's wire format: 0x00, the schema id in four bytes, big-endian, then the Avro body."""

import struct

MAGIC = 0
HEADER_SIZE = 5
_HEADER = struct.Struct(">bI")


class MalformedHeader(ValueError):
    """A Kafka value that does not start with Confluent's header."""


def header(schema_id: int) -> bytes:
    """Return the five header bytes that precede an Avro body."""
    return _HEADER.pack(MAGIC, schema_id)


def split(value: bytes) -> tuple[int, bytes]:
    """Split a Kafka value into schema id and Avro body. Raises `MalformedHeader`."""
    if len(value) < HEADER_SIZE:
        raise MalformedHeader(f"{len(value)} bytes are too few for a header of {HEADER_SIZE}")
    magic, schema_id = _HEADER.unpack_from(value)
    if magic != MAGIC:
        raise MalformedHeader(f"first byte is {magic:#04x}, not 0x00")
    return schema_id, value[HEADER_SIZE:]
