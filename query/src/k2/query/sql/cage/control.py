"""What the server and its fork server say to each other."""

import struct
from typing import Final

import msgspec

from k2.query.sql.cage.limits import Limits

FORK: Final = b"F"  # requests, the first with the socket of the new process
KILL: Final = b"K"
STARTED: Final = b"S"  # replies
ENDED: Final = b"E"
REQUEST: Final = struct.Struct("!cQ")  # what, and the number of the process
REPLY: Final = struct.Struct("!cQi")  # what, the number of the process, its pid or its exit status


class Settings(msgspec.Struct, frozen=True):
    """The argument of the fork server."""

    limits: Limits
    network: int | None
