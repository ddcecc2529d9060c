"""Messages between the server and the process of a statement: a kind, a length and the payload, over a socket.

Sockets give back-pressure: a process whose result nobody reads waits in `send`, with one batch in memory.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_HEADER: Final = struct.Struct("!BQ")


class Kind(IntEnum):
    """What a message is."""

    PARSE = 1  # to the process: the text of a statement
    RUN = 2  # to the process: a pickled `Job`
    PARSED = 3  # from the process, as all below: JSON
    DATA = 4  # bytes of an Arrow stream
    END = 5  # the result is complete
    ERROR = 6  # JSON


class FrameTooLarge(ValueError):
    """A message is larger than its reader allows."""


def send(channel: socket.socket, kind: Kind, *payload: bytes | memoryview) -> None:
    """Send one message. Blocks while the other side does not read."""
    parts = [memoryview(part).cast("B") for part in payload]
    channel.sendall(_HEADER.pack(kind, sum(len(part) for part in parts)))
    for part in parts:
        channel.sendall(part)


def receive(channel: socket.socket, largest: int) -> tuple[Kind, bytearray]:
    """Receive one message. Raises `EOFError` if the other side has ended, `FrameTooLarge` beyond `largest` bytes."""
    kind, size = _HEADER.unpack(_exactly(channel, _HEADER.size))
    if size > largest:
        raise FrameTooLarge(f"a message of {size} bytes")
    return Kind(kind), _exactly(channel, size)


def _exactly(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, position = memoryview(data), 0
    while position < size:
        count = channel.recv_into(view[position:])
        if not count:
            raise EOFError
        position += count
    return data
